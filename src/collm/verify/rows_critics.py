"""Critics' own gradients (Eq. 3 and 5), and actors with a value head on their own backbone, against plain autograd."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from collm.models.host import Member
from collm.models.loading import LoadedModel
from collm.models.passes import ValueHead
from collm.models.seeds import derive_seed
from collm.models.team import Team
from collm.rollout.branch import TreeShape
from collm.verify.conditional import CriticTexts, lambda_advantages
from collm.verify.exact import Exact, flat
from collm.verify.learner import lab_config, lab_team, learn, taken
from collm.verify.problems import Bench
from collm.verify.rows_actor_critic import NOT_CONVERGED, Critics, critic_reads
from collm.verify.table import Row, biased_row, exact_row

SEMI = "expected gradient of (r_t + gamma V(h_{t+1}) - V(h_t))^2 with the target held fixed, of a transformer critic with random weights"
SHARED = "policy loss + 0.6 times value loss through one pass; its value head is a wrong critic, so the sum is what is compared"


def critic_rows(bench: Bench, algorithm: str, problem: str) -> Iterator[Row]:
    """Random transformer critics: their semi-gradient, and what their errors do to the actors."""
    for info in ("text", "features"):
        team, exact = _trained(bench, algorithm, problem, {"global_info": info})
        found: list[np.ndarray] = []
        reference: list[np.ndarray] = []
        for name, reads in critic_reads(algorithm, exact.n_agents).items():
            member, loaded = team.critics[name].host.members[name], bench.cast(problem).live[name]
            values = _network_values(exact, CriticTexts(exact, reads, "full", "v", info == "text"), loaded, _head(member), info)
            found.append(taken(team, name))
            reference.append(_autograd(_td_loss(exact, values), member.parameters))
        yield exact_row(algorithm, f"critic loss, m_t as {info}", problem, found, reference, SEMI)
    yield from _network_actor_row(bench, algorithm, problem)


def _network_actor_row(bench: Bench, algorithm: str, problem: str) -> Iterator[Row]:
    """The whole path: a random transformer's values, read by production, in the actors' TD errors."""
    team, exact = _trained(bench, algorithm, problem, {"global_info": "text"})
    critics = Critics(exact, algorithm, "full")
    tables = {}
    for name, texts in critics.texts.items():
        member, loaded = team.critics[name].host.members[name], bench.cast(problem).live[name]
        values = _network_values(exact, texts, loaded, _head(member), "text")
        tables[name] = {text: float(values[r][t].detach()) for r, row in enumerate(texts.text_RH) for t, text in enumerate(row)}
    found = [-taken(team, name) for name in bench.cast(problem).problem.names]
    true = exact.gradient(exact.coefficients("paper"))
    yield biased_row(algorithm, "untrained transformer critic", problem, found, true, critics.predicted(tables), NOT_CONVERGED_NETWORK)


NOT_CONVERGED_NETWORK = NOT_CONVERGED.replace("the critic's values are off by normal numbers of deviation 0.5", "values of random weights")


def shared_backbone_row(bench: Bench, problem: str) -> Iterator[Row]:
    """CoLLM-DC with the value heads on the actors."""
    team, exact = _trained(bench, "collm-dc", problem, {"shared_backbone": True, "global_info": "none"})
    found: list[np.ndarray] = []
    reference: list[np.ndarray] = []
    for i, name in enumerate(exact.problem.names):
        member = team.policies[name].host.members[name]
        values = [
            [_value(exact.cast.live[name], _head(member), step.contexts[i], ()) for step in trajectory.steps]
            for trajectory in exact.trajectories
        ]
        number_RH = np.zeros((len(values), exact.horizon + 1))
        for r, row in enumerate(values):
            number_RH[r, : len(row)] = [float(v.detach()) for v in row]
        advantage_RHN = np.zeros(exact.triple_RHN.shape)
        advantage_RHN[:, :, i] = lambda_advantages(exact, number_RH, 0.0)
        policy_D = -exact.gradient(exact.score_coefficients(advantage_RHN))[i]
        value_D = _autograd(_td_loss(exact, values), member.parameters)
        found.append(taken(team, name))
        # The head comes after the model's own weights, and the policy loss does not touch it.
        reference.append(np.pad(policy_D, (0, len(value_D) - len(policy_D))) + 0.6 * value_D)
    yield exact_row("collm-dc", "shared_backbone: both losses", problem, found, reference, SHARED)


def _trained(bench: Bench, algorithm: str, problem: str, critic: Mapping[str, Any]) -> tuple[Team, Exact]:
    """A team whose taps hold the expected gradients of one update, critics included; value heads are random, not 0."""
    cast = bench.cast(problem)
    config = lab_config(cast, algorithm, critic=critic)
    team = lab_team(config, cast)
    for c in team.critics.values():
        generator = torch.Generator().manual_seed(derive_seed(problem, c.name, "head") % 2**31)
        with torch.no_grad():
            for p in _head(c.host.members[c.member]).parameters():
                p.copy_(0.3 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    learn(config, team, bench.episodes(problem, TreeShape()))
    return team, bench.exact(problem)


def _head(member: Member) -> ValueHead:
    assert member.value_head is not None
    return member.value_head


def _network_values(exact: Exact, texts: CriticTexts, loaded: LoadedModel, head: ValueHead, info: str) -> list[list[Tensor]]:
    """V at every turn of every trajectory, with its graph: one pass per text, read at its last token."""
    known: dict[tuple[str, tuple[float, ...]], Tensor] = {}
    found: list[list[Tensor]] = []
    for trajectory, row in zip(exact.trajectories, texts.text_RH, strict=True):
        last_rewards = [0.0, *(step.reward for step in trajectory.steps)]
        found.append([])
        for t, text in enumerate(row):
            # Production keeps m_t in single precision.
            numbers = tuple(float(np.float32(x)) for x in (t / exact.horizon, last_rewards[t])) if info == "features" else ()
            if (text, numbers) not in known:
                ids = loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
                known[text, numbers] = _value(loaded, head, ids, numbers)  # type: ignore[arg-type]
            found[-1].append(known[text, numbers])
    return found


def _value(loaded: LoadedModel, head: ValueHead, ids: Sequence[int], features: Sequence[float]) -> Tensor:
    hidden_D = loaded.model.base_model(input_ids=torch.tensor([list(ids)])).last_hidden_state[0, -1]  # type: ignore[operator]
    state_D = torch.cat([hidden_D, torch.tensor(features, dtype=hidden_D.dtype)])
    return (head.linear.weight[0] * state_D).sum() + head.linear.bias[0]


def _td_loss(exact: Exact, values: Sequence[Sequence[Tensor]]) -> Tensor:
    """E[ sum_t (r_t + gamma V_{t+1} - V_t)^2 ], V_{t+1} a number, 0 after the last turn."""
    total = torch.zeros((), dtype=torch.float64)
    for probability, trajectory, row in zip(exact.probability_R, exact.trajectories, values, strict=True):
        for t, step in enumerate(trajectory.steps):
            ahead = float(row[t + 1].detach()) if t + 1 < len(row) else 0.0
            total = total + probability * (step.reward + exact.problem.discount * ahead - row[t]) ** 2
    return total


def _autograd(loss: Tensor, parameters: Sequence[Tensor]) -> np.ndarray:
    return flat(torch.autograd.grad(loss, list(parameters), allow_unused=True), parameters)
