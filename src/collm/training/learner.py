"""One update of an actor-critic method (method.md section 5): values, advantages, then E epochs of minibatches.

Gradients of all members are accumulated and checked first and only then applied, so that an error leaves every weight
as it was before the minibatch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy as np

from collm.algorithms.advantages import clip, explained_variance, normalise, td_targets
from collm.algorithms.losses import SequencePolicyLoss, SquaredValueLoss
from collm.algorithms.method import ActorCriticMethod
from collm.config.schema import Config
from collm.errors import NonFiniteLossError
from collm.models.host import Host
from collm.models.seeds import derive_seed
from collm.models.sequences import PolicySample, ValueInput
from collm.models.team import Critic, Policy, Team
from collm.training.buffer import ReplayBuffer, Stored
from collm.types import Episode

T = TypeVar("T")
Metrics = dict[str, float]
Credit = dict[tuple[str, int], float]
"""A number per (episode id, turn)."""


class Learner:
    """Trains a team. `policy_steps` counts optimizer steps of the policies."""

    def __init__(self, config: Config, team: Team, method: ActorCriticMethod, executor: Executor) -> None:
        self._config = config
        self._team = team
        self._method = method
        self._executor = executor
        self.buffer = ReplayBuffer(config.replay.capacity, config.replay.max_policy_lag)
        self.policy_steps = 0
        algorithm = config.algorithm
        # One step per update on fresh samples: pi_old is pi, so the teacher-forced pass for rho is provably not needed.
        self._needs_old_logprobs = algorithm.epochs > 1 or algorithm.minibatch is not None or config.replay.max_policy_lag > 0

    def store(self, episodes: Sequence[Episode]) -> float:
        """Put episodes into the buffer, with log pi_old where rho will need it; returns the seconds that took."""
        begun = time.perf_counter()
        if self._needs_old_logprobs:
            self._run([(p.host, partial(self._record_old_logprobs, p, episodes)) for p in self._team.policies.values()])
        self.buffer.add(episodes)
        return time.perf_counter() - begun

    def update(self, update: int) -> Metrics:
        """The E epochs of 0-based `update`; returns its metrics.

        Raises NonFiniteLossError naming member, update and episodes; gradients are discarded, weights kept.
        """
        totals: dict[str, list[float]] = {}
        replay, size = self._config.replay, self._config.algorithm.minibatch
        old_values: dict[str, Credit] = {}
        for epoch in range(self._config.algorithm.epochs):
            drawn = self.buffer.draw(replay.draw, replay.sampling, derive_seed(self._config.seed, "draw", update, epoch))
            values, dropped = self._values(drawn)
            for critic, table in values.items():
                # Value clipping is measured from where the critic stood before this update's first step.
                old_values[critic] = table | old_values.get(critic, {})
            advantages, targets, metrics = self._credit(drawn, values)
            for start in range(0, len(drawn), size or len(drawn)):
                minibatch = drawn[start : start + (size or len(drawn))]
                metrics |= dropped | self._minibatch(minibatch, advantages, targets, old_values, update)
                for key, value in metrics.items():
                    totals.setdefault(key, []).append(value)
        self.buffer.expire(update + 1)
        return {key: max(v) if "max_" in key else float(np.mean(v)) for key, v in totals.items()}

    # -- steps of an update ----------------------------------------------------------------------------------------

    def _record_old_logprobs(self, policy: Policy, episodes: Sequence[Episode]) -> None:
        pairs = [(e, tr) for e in episodes for tr in e.transitions]
        samples = [_sample(policy.agent, e, tr.turn, {}) for e, tr in pairs]
        for (_, tr), logprob in zip(pairs, policy.host.score(policy.agent, samples), strict=True):
            tr.old_logprobs[policy.agent] = logprob

    def _values(self, drawn: Sequence[Stored]) -> tuple[dict[str, Credit], Metrics]:
        """V of every turn of every drawn episode, per critic; and how many turns no longer fitted their inputs."""
        episodes = list({s.episode.id: s.episode for s in drawn}.values())
        critics = list(self._team.critics.values())
        results = self._run([(c.host, partial(self._critic_values, c, episodes)) for c in critics])
        dropped = {f"dropped_turns/{c.name}": float(n) for c, (_, n) in zip(critics, results, strict=True)}
        return {c.name: values for c, (values, _) in zip(critics, results, strict=True)}, dropped

    def _critic_values(self, critic: Critic, episodes: Sequence[Episode]) -> tuple[Credit, int]:
        inputs: list[ValueInput] = []
        keys: list[list[tuple[str, int]]] = []
        for episode in episodes:
            more, groups = critic.reader.read(episode, range(len(episode.transitions)))
            inputs += more
            keys += [[(episode.id, t) for t in group] for group in groups]
        found = critic.host.values(critic.name, inputs)
        credit = {key: v for group, vs in zip(keys, found, strict=True) for key, v in zip(group, vs, strict=True)}
        dropped: dict[str, int] = {}
        for group, value_input in zip(keys, inputs, strict=True):
            dropped[group[0][0]] = max(dropped.get(group[0][0], 0), value_input.dropped_turns)
        return credit, sum(dropped.values())

    def _credit(self, drawn: Sequence[Stored], values: dict[str, Credit]) -> tuple[dict[str, Credit], dict[str, Credit], Metrics]:
        """Advantages per agent and targets per critic for the drawn transitions, with their metrics."""
        algorithm, agents = self._config.algorithm, list(self._team.policies)
        deltas: dict[str, Credit] = {agent: {} for agent in agents}
        targets: dict[str, Credit] = {critic: {} for critic in values}
        for episode in {s.episode.id: s.episode for s in drawn}.values():
            rewards_H = np.array([tr.reward for tr in episode.transitions])
            values_H = {c: np.array([v[episode.id, t] for t in range(len(rewards_H))]) for c, v in values.items()}
            for agent, delta_H in self._method.advantages(rewards_H, values_H, agents, algorithm.discount).items():
                deltas[agent] |= {(episode.id, t): float(d) for t, d in enumerate(delta_H)}
            for critic, v_H in values_H.items():
                targets[critic] |= {(episode.id, t): float(y) for t, y in enumerate(td_targets(rewards_H, v_H, algorithm.discount))}
        keys = [_key(s) for s in drawn]
        metrics: Metrics = {}
        advantages: dict[str, Credit] = {}
        for agent in agents:
            raw_B = np.array([deltas[agent][key] for key in keys])
            normal_B, skipped = normalise(raw_B, [s.turn for s in drawn], algorithm.advantage_normalization)
            clipped_B = clip(normal_B, algorithm.advantage_clip)
            advantages[agent] = dict(zip(keys, clipped_B.tolist(), strict=True))
            metrics |= {
                f"td_error/{agent}": float(np.abs(raw_B).mean()),
                f"advantage_std/{agent}": float(clipped_B.std()),
                f"normalisation_skipped/{agent}": float(skipped),
                f"advantage_clipped/{agent}": float((clipped_B != normal_B).mean()),
            }
        for critic in values:
            v_B, y_B = (np.array([table[critic][key] for key in keys]) for table in (values, targets))
            metrics |= {f"value_mean/{critic}": float(v_B.mean()), f"explained_variance/{critic}": explained_variance(v_B, y_B)}
        return advantages, targets, metrics

    def _minibatch(
        self,
        minibatch: Sequence[Stored],
        advantages: dict[str, Credit],
        targets: dict[str, Credit],
        old_values: dict[str, Credit],
        update: int,
    ) -> Metrics:
        """Gradients of every actor and critic on one minibatch, then one optimizer step each."""
        algorithm, updates = self._config.algorithm, self._config.training.updates
        policy_loss = SequencePolicyLoss(algorithm.clip_ratio)
        value_loss = SquaredValueLoss(self._config.critic.value_clip)
        policies, critics = list(self._team.policies.values()), list(self._team.critics.values())

        def critic_gradient(c: Critic) -> Metrics:
            return c.host.accumulate_values(c.name, _value_inputs(c, minibatch, targets[c.name], old_values[c.name]), value_loss)

        def actor_gradient(p: Policy) -> Metrics:
            return p.host.accumulate_policy(p.agent, self._policy_samples(p.agent, minibatch, advantages[p.agent]), policy_loss)

        jobs = [(c.host, partial(critic_gradient, c)) for c in critics] + [(p.host, partial(actor_gradient, p)) for p in policies]
        try:
            results = self._run(jobs)
        except NonFiniteLossError as error:
            for host in self._team.hosts.values():
                host.discard_gradients()
            error.add_place(f"update {update + 1}")
            raise
        members = [(c.name, c.host) for c in critics] + [(p.agent, p.host) for p in policies]
        norms = self._run([(host, partial(host.step, name, update, updates)) for name, host in members])
        self.policy_steps += 1
        metrics = {f"{key}/{name}": value for (name, _), result in zip(members, results, strict=True) for key, value in result.items()}
        return metrics | {f"gradient_norm/{name}": norm for (name, _), norm in zip(members, norms, strict=True)}

    def _policy_samples(self, agent: str, minibatch: Sequence[Stored], advantages: Credit) -> list[PolicySample]:
        samples: list[PolicySample] = []
        for s in minibatch:
            fresh = s.episode.policy_version == self.policy_steps
            old = math.nan if fresh else s.transition.old_logprobs[agent]
            samples.append(_sample(agent, s.episode, s.turn, {"advantage": advantages[_key(s)], "old_logprob": old}))
        return samples

    def _run(self, jobs: Sequence[tuple[Host, Callable[[], T]]]) -> list[T]:
        """Run jobs, each host's one after the other and the hosts side by side; results in order of the jobs.

        All have ended when this returns or raises.
        """
        by_host: dict[str, list[int]] = {}
        for i, (host, _) in enumerate(jobs):
            by_host.setdefault(host.name, []).append(i)
        futures = [self._executor.submit(lambda own=own: [(i, jobs[i][1]()) for i in own]) for own in by_host.values()]
        errors = [e for e in (f.exception() for f in futures) if e is not None]
        if errors:
            raise errors[0]
        found = dict(pair for f in futures for pair in f.result())
        return [found[i] for i in range(len(jobs))]


def _key(s: Stored) -> tuple[str, int]:
    return s.episode.id, s.turn


def _sample(agent: str, episode: Episode, turn: int, data: dict[str, float]) -> PolicySample:
    t = episode.transitions[turn].turns[agent]
    return PolicySample(t.context_ids, t.response_ids, data, f"episode {episode.id} turn {turn}")


def _value_inputs(critic: Critic, minibatch: Sequence[Stored], targets: Credit, values: Credit) -> list[ValueInput]:
    """The critic's inputs for a minibatch, one per episode where its history fits, with targets and old values."""
    turns: dict[str, list[int]] = {}
    episodes: dict[str, Episode] = {}
    for s in minibatch:
        turns.setdefault(s.episode.id, []).append(s.turn)
        episodes[s.episode.id] = s.episode
    found: list[ValueInput] = []
    for key, episode in episodes.items():
        inputs, groups = critic.reader.read(episode, sorted(turns[key]))
        for value_input, group in zip(inputs, groups, strict=True):
            data = {"target": tuple(targets[key, t] for t in group), "old_value": tuple(values[key, t] for t in group)}
            found.append(replace(value_input, data=data))
    return found
