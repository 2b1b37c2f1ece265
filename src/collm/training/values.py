"""Asking critics: the values of episodes' turns, and the inputs their losses are taken on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from collm.algorithms.turns import TurnValues
from collm.models.sequences import ValueInput
from collm.models.team import Critic
from collm.training.buffer import Stored
from collm.types import Episode

Key = tuple[str, int]


def read_values(
    critic: Critic, drawn: Sequence[Stored], kind: Literal["v", "q"], slow: bool
) -> tuple[dict[str, tuple[int, TurnValues]], int]:
    """Per episode its first drawn turn and the values of all its turns from there on; and how many turns no longer fitted the inputs.

    What an episode's last turn bootstraps from is V of what stands upcoming, where something does, and 0 where nothing
    does. With `slow` all bootstrap values are the slow copy's.
    """
    first: dict[str, int] = {}
    episodes: dict[str, Episode] = {}
    for s in drawn:
        first[s.episode.id] = min(s.index, first.get(s.episode.id, s.index))
        episodes[s.episode.id] = s.episode
    wanted = {e.id: range(first[e.id], len(e.transitions) + (e.upcoming is not None and kind == "v")) for e in episodes.values()}
    inputs: list[ValueInput] = []
    keys: list[list[Key]] = []
    for episode in episodes.values():
        more, groups = critic.reader.read(episode, wanted[episode.id])
        inputs += more
        keys += [[(episode.id, t) for t in group] for group in groups]
    online = _table(keys, critic.host.values(critic.member, inputs))
    bootstrap = _table(keys, critic.host.values(critic.member, inputs, slow=True)) if slow else online
    found: dict[str, tuple[int, TurnValues]] = {}
    for e in episodes.values():
        turns = range(first[e.id], len(e.transitions))
        next_H = [bootstrap.get((e.id, t + 1), 0.0) for t in turns]
        found[e.id] = (first[e.id], TurnValues(np.array([online[e.id, t] for t in turns]), np.array(next_H)))
    dropped: dict[str, int] = {}
    for group, value_input in zip(keys, inputs, strict=True):
        dropped[group[0][0]] = max(dropped.get(group[0][0], 0), value_input.dropped_turns)
    return found, sum(dropped.values())


def value_inputs(
    critic: Critic, minibatch: Sequence[Stored], targets: dict[Key, float], values: dict[Key, float], weight: float
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
            found.append(replace(value_input, data=data, weights=(weight,) * len(group)))
    return found


def _table(keys: Sequence[Sequence[Key]], values: Sequence[Sequence[float]]) -> dict[Key, float]:
    return {key: v for group, vs in zip(keys, values, strict=True) for key, v in zip(group, vs, strict=True)}
