"""Asking critics: the values of episodes' turns, and the inputs their losses are taken on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from collm.algorithms.turns import TurnEstimator, TurnValues
from collm.models.member import Metrics, ValueLoss
from collm.models.sequences import ValueInput
from collm.models.team import Critic
from collm.training.buffer import Stored
from collm.training.credit import Credit, Key
from collm.types import Episode

Reading = tuple[dict[str, tuple[int, TurnValues]], int]
"""Per episode its first drawn turn and the values of all its turns from there on; and how many turns no longer fitted the inputs."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a critic is asked about drawn joint transitions: every turn from an episode's first drawn one on."""

    episodes: list[Episode]
    first: dict[str, int]
    inputs: list[ValueInput]
    keys: list[list[Key]]
    """Of each input the turns whose values stand at its positions."""

    @classmethod
    def of(cls, critic: Critic, drawn: Sequence[Stored], kind: Literal["v", "q"]) -> _Asked:
        first: dict[str, int] = {}
        episodes: dict[str, Episode] = {}
        for s in drawn:
            first[s.episode.id] = min(s.index, first.get(s.episode.id, s.index))
            episodes[s.episode.id] = s.episode
        asked = cls(list(episodes.values()), first, [], [])
        for e in asked.episodes:
            more, groups = critic.reader.read(e, range(first[e.id], len(e.transitions) + (e.upcoming is not None and kind == "v")))
            asked.inputs.extend(more)
            asked.keys.extend([(e.id, t) for t in group] for group in groups)
        return asked

    @property
    def dropped_turns(self) -> int:
        dropped: dict[str, int] = {}
        for group, value_input in zip(self.keys, self.inputs, strict=True):
            dropped[group[0][0]] = max(dropped.get(group[0][0], 0), value_input.dropped_turns)
        return sum(dropped.values())


def read_values(critic: Critic, drawn: Sequence[Stored], kind: Literal["v", "q"], slow: bool) -> Reading:
    """V of the drawn turns and of those after them in their episodes. With `slow` all bootstrap values are the slow copy's."""
    asked = _Asked.of(critic, drawn, kind)
    online = _table(asked.keys, critic.host.values(critic.member, asked.inputs))
    bootstrap = _table(asked.keys, critic.host.values(critic.member, asked.inputs, slow=True)) if slow else online
    found = {e.id: (asked.first[e.id], _turn_values(e, asked.first[e.id], online, bootstrap)) for e in asked.episodes}
    return found, asked.dropped_turns


def learn_values(
    critic: Critic, drawn: Sequence[Stored], estimator: TurnEstimator, loss: ValueLoss, weight: Callable[[Key], float]
) -> tuple[Reading, Metrics] | None:
    """`read_values` and the critic's gradient on the same turns, by one pass instead of two; None where that cannot be.

    It can where an episode's turns are all in one input, so that its targets are known as soon as that has been read.
    """
    asked = _Asked.of(critic, drawn, estimator.kind)
    if len(asked.inputs) > len(asked.episodes):
        return None
    wanted = {s.key for s in drawn}
    found: dict[str, tuple[int, TurnValues]] = {}

    def complete(i: int, values: list[float]) -> ValueInput:
        episode, start, keys = asked.episodes[i], asked.first[asked.episodes[i].id], asked.keys[i]
        online = dict(zip(keys, values, strict=True))
        turn_values = _turn_values(episode, start, online, online)
        found[episode.id] = (start, turn_values)
        target_H = estimator.targets(np.array([tr.reward for tr in episode.transitions[start:]]), turn_values)
        targets = {(episode.id, start + t): float(y) for t, y in enumerate(target_H)}
        # A turn that was not drawn is asked for its value only: it is its own target, with no weight.
        data = {"target": tuple(targets[k] if k in wanted else online[k] for k in keys), "old_value": tuple(values)}
        return replace(asked.inputs[i], data=data, weights=tuple(weight(k) if k in wanted else 0.0 for k in keys))

    _, metrics = critic.host.learn_values(critic.member, asked.inputs, complete, loss)
    return (found, asked.dropped_turns), metrics


def _turn_values(episode: Episode, first: int, online: Mapping[Key, float], bootstrap: Mapping[Key, float]) -> TurnValues:
    """An episode's values from turn `first` on.

    What its last turn bootstraps from is V of what stands upcoming, where something does, and 0 where nothing does.
    """
    turns = range(first, len(episode.transitions))
    next_H = [bootstrap.get((episode.id, t + 1), 0.0) for t in turns]
    return TurnValues(np.array([online[episode.id, t] for t in turns]), np.array(next_H))


def value_inputs(
    critic: Critic, minibatch: Sequence[Stored], targets: Credit, values: Credit, weight: Callable[[Key], float]
) -> list[ValueInput]:
    """The critic's inputs for a minibatch, one per episode where its history fits, with targets, old values and weights."""
    turns: dict[str, list[int]] = {}
    episodes: dict[str, Episode] = {}
    for s in minibatch:
        turns.setdefault(s.episode.id, []).append(s.index)
        episodes[s.episode.id] = s.episode
    found: list[ValueInput] = []
    for key, episode in episodes.items():
        inputs, groups = critic.reader.read(episode, sorted(turns[key]))
        for value_input, group in zip(inputs, groups, strict=True):
            data = {"target": tuple(targets[key, t] for t in group), "old_value": tuple(values[key, t] for t in group)}
            found.append(replace(value_input, data=data, weights=tuple(weight((key, t)) for t in group)))
    return found


def _table(keys: Sequence[Sequence[Key]], values: Sequence[Sequence[float]]) -> dict[Key, float]:
    return {key: v for group, vs in zip(keys, values, strict=True) for key, v in zip(group, vs, strict=True)}
