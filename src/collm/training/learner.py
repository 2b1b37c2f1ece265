"""One update of any method (method.md section 5): values, credit, then E epochs of minibatches.

Gradients of all members are accumulated and checked first and only then applied, so that an error leaves every weight
as it was before the minibatch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import TypeVar

import numpy as np

from collm.algorithms.losses import PolicyGradientLoss, SharedLoss, SquaredValueLoss
from collm.algorithms.method import Method
from collm.algorithms.registry import has_critics
from collm.algorithms.trees import agent_groups
from collm.config.schema import Config
from collm.errors import NonFiniteLossError
from collm.models.host import Host
from collm.models.optim import Progress
from collm.models.seeds import derive_seed
from collm.models.sequences import PolicySample
from collm.models.team import Critic, Policy, Team
from collm.models.workers import side_by_side
from collm.training.buffer import ReplayBuffer, Stored
from collm.training.credit import Credit, Credits, Key, actor_critic_credits, monte_carlo_credits, turn_estimator
from collm.training.values import Reading, learn_values, read_values, value_inputs
from collm.types import Episode

T = TypeVar("T")
Metrics = dict[str, float]
Weigh = Callable[[Key], float]
"""What a joint transition counts in the sum over a minibatch."""


class Learner:
    """Trains a team. `updates` counts its updates, `policy_steps` the optimizer steps of the policies, `steps` those of any member."""

    def __init__(self, config: Config, team: Team, method: Method, executor: Executor) -> None:
        self._config = config
        self._team = team
        self._method = method
        self._executor = executor
        self.buffer = ReplayBuffer(config.replay.capacity, config.replay.max_policy_lag)
        self.updates = 0
        self.policy_steps = 0
        self.steps = 0
        algorithm, critic = config.algorithm, config.critic
        # One step per update on fresh samples: pi_old is pi, so the teacher-forced pass for rho is provably not needed.
        self._needs_old_logprobs = algorithm.epochs > 1 or algorithm.minibatch is not None or config.replay.max_policy_lag > 0
        # Then a critic's values and its gradient come from one pass. On devices of their own critics rather learn beside the actors.
        alone = critic.target_rate is None and not critic.shared_backbone and algorithm.epochs == 1
        self._one_pass = alone and len({h.device for h in team.hosts.values()}) == 1
        policy_loss = PolicyGradientLoss(algorithm.ratio, algorithm.clip_ratio, algorithm.kl_coef, algorithm.entropy_coef)
        self._value_loss = SquaredValueLoss(critic.value_clip)
        self._policy_loss = SharedLoss(policy_loss, self._value_loss, critic.value_coef) if critic.shared_backbone else policy_loss

    def store(self, stored: Sequence[Stored]) -> float:
        """Put joint transitions into the buffer, with log pi_old where rho will need it; returns the seconds that took."""
        begun = time.perf_counter()
        if self._needs_old_logprobs:
            self._run([(p.host, partial(self._record_old_logprobs, p, stored)) for p in self._team.policies.values()])
        self.buffer.add([s for s in stored if not s.transition.greedy])
        return time.perf_counter() - begun

    def update(self, at: Progress, rollouts: int | None = None) -> Metrics:
        """The E epochs of one update; returns its metrics.

        `rollouts` says how many episodes the stored joint transitions stand for (by default as many as they are from);
        gradients are means over them. Raises NonFiniteLossError naming member and episodes; gradients are
        discarded, weights kept.
        """
        totals: dict[str, list[float]] = {}
        replay, size = self._config.replay, self._config.algorithm.minibatch
        old_values: dict[str, Credit] = {}
        per_episode = len(self.buffer) / (rollouts or len(self.buffer.episodes()))
        for epoch in range(self._config.algorithm.epochs):
            drawn = self.buffer.draw(replay.draw, replay.sampling, derive_seed(self._config.seed, "draw", self.updates, epoch))
            step = size or len(drawn)
            learns = self._one_pass and step >= len(drawn)
            credits, learned = self._credits(drawn, self._weigh(per_episode / len(drawn)) if learns else None)
            _note(drawn, credits)
            for critic, table in credits.values.items():
                # Value clipping is measured from where the critic stood before this update's first step.
                old_values[critic] = table | old_values.get(critic, {})
            credits.values = old_values
            for start in range(0, len(drawn), step):
                minibatch = drawn[start : start + step]
                metrics = credits.metrics | self._minibatch(minibatch, credits, learned, self._weigh(per_episode / len(minibatch)), at)
                for key, value in metrics.items():
                    totals.setdefault(key, []).append(value)
        self.updates += 1
        self.buffer.expire(self.updates)
        return {key: max(v) if "max_" in key else float(np.mean(v)) for key, v in totals.items()}

    def state(self, update: int) -> dict[str, object]:
        """Counters and buffer for a checkpoint before 0-based rollout `update`, without what an interrupted one had stored."""
        return {
            "updates": self.updates,
            "policy_steps": self.policy_steps,
            "steps": self.steps,
            "buffer": self.buffer.state(update),
        }

    def load_state(self, state: dict) -> None:
        self.updates, self.policy_steps, self.steps = state["updates"], state["policy_steps"], state["steps"]
        self.buffer.load_state(state["buffer"])

    # -- steps of an update ----------------------------------------------------------------------------------------

    def _record_old_logprobs(self, policy: Policy, stored: Sequence[Stored]) -> None:
        mine = own_samples(policy.agent, stored)
        samples = [self._sample(policy.agent, s, {}, {}) for s in mine]
        for s, logprobs in zip(mine, policy.host.score(policy.agent, samples), strict=True):
            s.transition.old_logprobs[policy.agent] = logprobs

    def _weigh(self, scale: float) -> Weigh:
        """All alike. (`collm verify` weighs episodes by their probability.)"""
        return lambda key: scale

    def _credits(self, drawn: Sequence[Stored], weight: Weigh | None) -> tuple[Credits, dict[str, Metrics]]:
        """Credits of the drawn joint transitions.

        With a `weight`, what each counts in a critic's loss, critics learn in the same pass where they can: then their
        gradients are there, and the metrics are theirs.
        """
        algorithm, agents = self._config.algorithm, list(self._team.policies)
        if not has_critics(self._method):
            return monte_carlo_credits(self._method, algorithm, agents, drawn), {}
        critics, kind = list(self._team.critics.values()), self._config.critic.kind
        estimator = turn_estimator(algorithm, kind)

        def read(critic: Critic) -> tuple[Reading, Metrics | None]:
            found = learn_values(critic, drawn, estimator, self._value_loss, weight) if weight is not None else None
            return found or (read_values(critic, drawn, kind, self._config.critic.target_rate is not None), None)

        results = self._gradients([(c.host, partial(read, c)) for c in critics])
        values = {c.name: table for c, ((table, _), _) in zip(critics, results, strict=True)}
        credits = actor_critic_credits(self._method, algorithm, estimator, agents, drawn, values)
        credits.metrics |= {f"dropped_turns/{c.name}": float(n) for c, ((_, n), _) in zip(critics, results, strict=True)}
        return credits, {c.name: metrics for c, (_, metrics) in zip(critics, results, strict=True) if metrics is not None}

    def _minibatch(
        self, minibatch: Sequence[Stored], credits: Credits, learned: Mapping[str, Metrics], weight: Weigh, at: Progress
    ) -> Metrics:
        """Gradients of every actor and critic on one minibatch, then one optimizer step each; critics in `learned` have theirs."""
        critics = [c for c in self._team.critics.values() if not c.shares_backbone]
        warming_up = at.update < self._config.critic.warmup_updates
        policies = [] if warming_up else list(self._team.policies.values())

        def critic_gradient(c: Critic) -> Metrics:
            inputs = value_inputs(c, minibatch, credits.targets[c.name], credits.values[c.name], weight)
            return c.host.accumulate_values(c.member, inputs, self._value_loss)

        def actor_gradient(p: Policy) -> Metrics:
            return p.host.accumulate_policy(p.agent, self._policy_samples(p.agent, minibatch, credits, weight), self._policy_loss)

        learning = [c for c in critics if c.name not in learned]
        jobs = [(c.host, partial(critic_gradient, c)) for c in learning] + [(p.host, partial(actor_gradient, p)) for p in policies]
        names = [c.name for c in learning] + [p.agent for p in policies]
        results = dict(learned) | dict(zip(names, self._gradients(jobs), strict=True))
        members = [(c.name, c.host) for c in critics] + [(p.agent, p.host) for p in policies]
        norms = self._run([(host, partial(host.step, name, at)) for name, host in members])
        self.steps += 1
        self.policy_steps += not warming_up
        metrics = {f"{key}/{name}": value for name, result in results.items() for key, value in result.items()}
        return metrics | {f"gradient_norm/{name}": norm for (name, _), norm in zip(members, norms, strict=True)}

    def _gradients(self, jobs: Sequence[tuple[Host, Callable[[], T]]]) -> list[T]:
        """`_run` of jobs that accumulate gradients: if one finds its loss not finite, none are left."""
        try:
            return self._run(jobs)
        except NonFiniteLossError:
            for host in self._team.hosts.values():
                host.discard_gradients()
            raise

    def _policy_samples(self, agent: str, minibatch: Sequence[Stored], credits: Credits, weight: Weigh) -> list[PolicySample]:
        """An agent's samples among the minibatch, with all that its loss reads."""
        advantages, weights = credits.advantages[agent], credits.weights[agent]
        samples: list[PolicySample] = []
        for s in minibatch:
            if s.key not in advantages:
                continue
            tr = s.transition
            fresh = tr.policy_version == self.policy_steps
            old = (math.nan,) * len(tr.turns[agent].response_ids) if fresh else tr.old_logprobs[agent]
            data = {"advantage": advantages[s.key], **self._shared_data(agent, s.key, credits)}
            samples.append(self._sample(agent, s, data, {"old_logprob": old}, weights[s.key] * weight(s.key)))
        return samples

    def _shared_data(self, agent: str, key: Key, credits: Credits) -> dict[str, float]:
        """What the value loss of a shared backbone reads beside the policy loss."""
        shared = [c.name for c in self._team.critics.values() if c.shares_backbone and c.member == agent]
        return {k: table[c][key] for c in shared for k, table in (("target", credits.targets), ("old_value", credits.values))}

    def _sample(
        self, agent: str, stored: Stored, data: dict[str, float], token_data: dict[str, tuple[float, ...]], weight: float = 1.0
    ) -> PolicySample:
        turn, transition = stored.transition.turns[agent], stored.transition
        features: tuple[float, ...] = ()
        if self._config.critic.shared_backbone and self._config.critic.reads == "features":
            features = tuple(float(x) for x in transition.info.features)
        origin = f"episode {stored.episode.id} turn {transition.turn}"
        return PolicySample(turn.context_ids, turn.response_ids, data, origin, token_data, weight, features)

    def _run(self, jobs: Sequence[tuple[Host, Callable[[], T]]]) -> list[T]:
        """Run jobs, each host's one after the other and the hosts side by side; results in order of the jobs.

        Hosts on one GPU take turns: side by side they would not be faster, and their activations would be there at once.
        All have ended when this returns or raises.
        """
        by_host: dict[str, list[int]] = {}
        for i, (host, _) in enumerate(jobs):
            by_host.setdefault(host.name if host.device.type == "cpu" else str(host.device), []).append(i)

        def work(own: Sequence[int]) -> list[tuple[int, T]]:
            return [(i, jobs[i][1]()) for i in own]

        futures = side_by_side(self._executor, [partial(work, own) for own in by_host.values()])
        errors = [e for e in (f.exception() for f in futures) if e is not None]
        if errors:
            raise errors[0]
        found = dict(pair for f in futures for pair in f.result())
        return [found[i] for i in range(len(jobs))]


def _note(drawn: Sequence[Stored], credits: Credits) -> None:
    """Leave in the records, for people, what the first update that learns from a joint transition makes of it."""
    for s in drawn:
        noted = s.transition
        noted.values = {critic: table[s.key] for critic, table in credits.values.items()} | noted.values
        noted.advantages = {agent: table[s.key] for agent, table in credits.raw.items() if s.key in table} | noted.advantages


def own_samples(agent: str, stored: Sequence[Stored]) -> list[Stored]:
    """The joint transitions that stand for an agent's responses: all of a chain; of a tree the first that contains each response."""
    firsts: dict[int, set[int]] = {}
    episodes: dict[int, Episode] = {id(s.episode): s.episode for s in stored}
    for i, episode in episodes.items():
        firsts[i] = {actions[0] for group in agent_groups(episode, agent).values() for actions in group}
    return [s for s in stored if s.index in firsts[id(s.episode)]]
