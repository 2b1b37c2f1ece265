"""The production learner on enumerated episodes: what it would step with, in expectation.

`Learner.store` and `Learner.update` run as they are. Only two things differ: each episode's samples count by its
probability, and the optimizer writes the gradient down instead of stepping.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from collm.algorithms.registry import has_critics, make_method
from collm.config.schema import AlgorithmConfig, Config, CriticConfig, MonteCarloConfig, OptimizerConfig, ReplayConfig, TrainingConfig
from collm.models.optim import Progress
from collm.models.team import Team, build_team
from collm.training.buffer import Stored
from collm.training.learner import Learner, Weigh
from collm.verify.conditional import Table, TableHost
from collm.verify.enumerate import Inline, Weighted, agent_configs
from collm.verify.exact import flat
from collm.verify.tiny_teams import CONTEXT_WINDOW, CRITIC_WINDOW, Cast


class GradientTap(torch.optim.AdamW):
    """An optimizer that adds up the gradients it is to step with, (D,), and leaves the weights alone."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        super().__init__(parameters, lr=1.0)
        self._parameters = parameters
        self.taken_D = np.zeros(sum(p.numel() for p in parameters))

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        self.taken_D = self.taken_D + flat([p.grad for p in self._parameters], self._parameters)


class LabLearner(Learner):
    """Weighs each episode by its probability. An update's mean over episodes becomes the expectation over them."""

    def __init__(self, config: Config, team: Team, probability: Mapping[str, float]) -> None:
        super().__init__(config, team, make_method(config), Inline())
        self._probability = probability

    def _weigh(self, scale: float) -> Weigh:
        return lambda key: scale * len(self._probability) * self._probability[key[0]]


def lab_config(
    cast: Cast,
    method: str,
    *,
    history: str = "full",
    algorithm: Mapping[str, object] | None = None,
    critic: Mapping[str, object] | None = None,
    monte_carlo: Mapping[str, object] | None = None,
    stale: bool = False,
) -> Config:
    """A configuration with nothing beside the bare estimator; `stale`: data may be one update old."""
    plain = OptimizerConfig(gradient_clip=None)
    return Config.model_validate(
        {
            "method": method,
            "history": history,
            "context_window": CONTEXT_WINDOW,
            "agents": agent_configs(cast),
            "critic": CriticConfig.model_validate({"context_window": CRITIC_WINDOW, "optimizer": plain, **(critic or {})}),
            "algorithm": AlgorithmConfig.model_validate(
                {"discount": cast.problem.discount, "advantage_normalization": "off", **(algorithm or {})}
            ),
            "monte_carlo": MonteCarloConfig.model_validate(monte_carlo or {}),
            "replay": ReplayConfig(capacity=1 << 24, max_policy_lag=int(stale)),
            "training": TrainingConfig(micro_batch_tokens=1 << 14),
        }
    )


def lab_team(config: Config, cast: Cast, tables: Mapping[str, Table] | None = None) -> Team:
    """The production team on the cast's live models; critics with a table look their values up in it. Every optimizer is tapped."""
    method, names = make_method(config), cast.problem.names
    critics = method.critics(names) if has_critics(method) else {}
    team = build_team(config, names, critics, 2, cast.live)
    for name, table in (tables or {}).items():
        host = TableHost(name, cast.live[name], table)
        host.members = team.critics[name].host.members
        team.critics[name] = replace(team.critics[name], host=host)
    for member in (m for host in team.hosts.values() for m in host.members.values()):
        member.optimizer = GradientTap(member.parameters)
    return team


def taken(team: Team, member: str) -> np.ndarray:
    """The gradient (D,) a member would have stepped with."""
    optimizer = next(host.members[member].optimizer for host in team.hosts.values() if member in host.members)
    assert isinstance(optimizer, GradientTap)
    return optimizer.taken_D


def expected_gradient(
    config: Config,
    cast: Cast,
    weighted: Sequence[Weighted],
    tables: Mapping[str, Table] | None = None,
    *,
    keep: Callable[[Stored], bool] = lambda _: True,
    between: Callable[[], None] | None = None,
) -> list[np.ndarray]:
    """The expected gradient of the objective (minus the loss's), per agent (D,), as production computes it.

    `keep` says which joint transitions are learned from; `between` is called after they were stored, and counts as a
    policy step: it may move the weights.
    """
    team = lab_team(config, cast, tables)
    learn(config, team, weighted, keep=keep, between=between)
    return [-taken(team, name) for name in cast.problem.names]


def learn(
    config: Config,
    team: Team,
    weighted: Sequence[Weighted],
    *,
    keep: Callable[[Stored], bool] = lambda _: True,
    between: Callable[[], None] | None = None,
) -> LabLearner:
    """One update on all episodes; the gradients are in the team's taps afterwards."""
    learner = LabLearner(config, team, {w.episode.id: w.probability for w in weighted})
    stored = [Stored(w.episode, a) for w in weighted for a in range(len(w.episode.transitions))]
    learner.store([s for s in stored if keep(s)])
    if between is not None:
        between()
        learner.policy_steps += 1
    learner.update(Progress(0, 1), rollouts=len(weighted))
    return learner
