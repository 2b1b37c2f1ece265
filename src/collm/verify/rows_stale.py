"""Samples of an older policy and the importance ratio rho (method.md section 5).

The episodes are enumerated and stored under the old weights, log pi_old by production's own teacher forcing; then the weights move
and the update is taken. rho_{i,t} belongs to agent i's own response, so that it replaces pi_old,i by pi_i and leaves the
teammates and the earlier turns as they were sampled.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from collm.rollout.branch import TreeShape
from collm.verify.exact import Exact
from collm.verify.learner import expected_gradient, lab_config
from collm.verify.problems import Bench
from collm.verify.rows_actor_critic import Critics
from collm.verify.table import Row, biased_row, exact_row
from collm.verify.tiny_teams import perturb

MOVED = 0.1
"""Standard deviation of the weights' steps between sampling and update."""
OWN_RATIO = "one agent, one turn: rho turns the old policy's samples into the exact gradient under the present weights"
TEAM_RATIO = (
    "rho_{i,t} corrects agent i's own response: what is estimated is agent i's gradient against the teammates that sampled "
    "(equal to it), not against the teammates' present weights"
)
TURN_RATIO = (
    "rho_{i,t} corrects turn t's own response: the histories and, with G or V, what follows stay those of the policies that sampled; "
    "equal to the prediction computed apart"
)
TOKEN_RATIO = "PPO's ratio of each token weighs it without the tokens around it; equal to the prediction computed apart"


def stale_rows(bench: Bench, algorithm: str, samples: int, label: str, *, single: bool) -> Iterator[Row]:
    """One turn: exact for one agent, exact against the old teammates for several."""
    scale = (samples - 1) / samples if algorithm == "magrpo" else 1.0
    name = f"stale, K={samples}, H=1" + (": (K-1)/K grad J" if algorithm == "magrpo" else "")
    found, old, new = _stale_gradient(bench, algorithm, "mono", samples, "sequence")
    yield exact_row(label, f"{name}, n=1", "mono", found, _scaled(new.gradient(new.coefficients("paper")), scale), OWN_RATIO)
    if single:
        return
    found, old, new = _stale_gradient(bench, algorithm, "words", samples, "sequence")
    true = _scaled(new.gradient(new.coefficients("paper")), scale)
    yield biased_row(label, f"{name}, n=2", "words", found, true, _scaled(_against_old_teammates(old, new), scale), TEAM_RATIO)


def token_ratio_row(bench: Bench) -> Iterator[Row]:
    """`ratio: token` on responses of several tokens."""
    found, old, new = _stale_gradient(bench, "ma-reinforce", "mono", 1, "token")
    true = new.gradient(new.coefficients("paper"))
    yield biased_row("ma-reinforce", "stale, ratio: token, n=1", "mono", found, true, _token_prediction(old, new), TOKEN_RATIO)


def stale_critic_row(bench: Bench, algorithm: str) -> Iterator[Row]:
    """Several turns: the critic has converged for the policies that sampled."""
    cast, old = bench.fresh_cast("blind"), bench.exact("blind")
    critics = Critics(old, algorithm, "full")
    tables = critics.converged()
    episodes = bench.episodes("blind", TreeShape())
    config = lab_config(cast, algorithm, stale=True)
    found = expected_gradient(config, cast, episodes, tables, between=lambda: perturb(cast, MOVED))
    new = Exact(cast)
    rho_Y = (new.logprob_Y - old.logprob_Y).detach().exp().numpy()
    # With critics of the old policies the old expectation of grad log pi * A, reweighed response by response.
    predicted = new.gradient(rho_Y * critics.coefficients(tables))
    true = new.gradient(new.coefficients("paper"))
    yield biased_row(algorithm, "stale, H=3, critic of the old policies", "blind", found, true, predicted, TURN_RATIO)


def _stale_gradient(bench: Bench, algorithm: str, problem: str, samples: int, ratio: str) -> tuple[list[np.ndarray], Exact, Exact]:
    cast = bench.fresh_cast(problem)
    episodes = bench.episodes(problem, TreeShape(samples, greedy_baseline=algorithm == "maremax"))
    config = lab_config(cast, algorithm, algorithm={"ratio": ratio}, monte_carlo={"samples": samples}, stale=True)
    found = expected_gradient(config, cast, episodes, between=lambda: perturb(cast, MOVED))
    return found, bench.exact(problem), Exact(cast)


def _against_old_teammates(old: Exact, new: Exact) -> list[np.ndarray]:
    """Agent i's gradient of J(pi_i, pi_old of the others), per agent."""
    found: list[np.ndarray] = []
    for i in range(new.n_agents):
        mixed_Y = torch.where(torch.from_numpy(new.agent_Y == i), new.logprob_Y, old.logprob_Y)
        found.append(new.gradient(new.coefficients("paper", at_Y=mixed_Y))[i])
    return found


def _token_prediction(old: Exact, new: Exact) -> list[np.ndarray]:
    """E_old[ G sum_mu rho_mu grad log pi(a_mu) ], by autograd through sum_mu rho_mu."""
    coefficient_Y = torch.from_numpy(old.score_coefficients(old.return_RH[:, :, None].repeat(old.n_agents, -1)))
    pairs = zip(new.token_logprobs(), old.token_logprobs(), strict=True)
    surrogate = torch.stack([c * (x - y.detach()).exp().sum() for c, (x, y) in zip(coefficient_Y, pairs, strict=True)]).sum()
    return new.autograd(surrogate)


def _scaled(gradient: list[np.ndarray], scale: float) -> list[np.ndarray]:
    return [scale * g for g in gradient]
