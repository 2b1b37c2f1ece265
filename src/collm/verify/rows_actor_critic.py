"""CoLLM-CC and CoLLM-DC with critics whose every value is known (method.md section 4, Eq. 2 to 5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import numpy as np

from collm.algorithms.registry import has_critics, make_method
from collm.rollout.branch import TreeShape
from collm.training.buffer import Stored
from collm.verify.conditional import CriticTexts, Kind, Table, lambda_advantages, wrong
from collm.verify.exact import Exact
from collm.verify.learner import expected_gradient, lab_config
from collm.verify.problems import Bench
from collm.verify.rows_monte_carlo import DISCOUNTED
from collm.verify.table import Row, biased_row, exact_row

WRONG = 0.5
"""Standard deviation of a wrong critic's errors; the problems' returns are of order 1."""
EACH_TURN = "each turn alone is exact, so any mix of turns that a minibatch draws is (no replay of stale data)"
DC_EXACT = (
    "exact although nobody sees the state: h_{i,t+1} contains h_{i,t} and a_{i,t} (perfect recall), so that "
    "E[V_i(h_{i,t+1}) | h_{i,t}, a_{i,t}] = E[G_{t+1} | h_{i,t}, a_{i,t}] by the tower property"
)
DC_FORGETS = (
    "V_i of the newest observation, the best such critic: it does not know what a_{i,t} was, so bootstrapping from it loses "
    "what the action changed beyond what the next observation shows; equal to the prediction computed apart"
)
LAST = (
    "converged critic of the newest observations alone: these are no sufficient statistic of the past, so bootstrapping from them "
    "loses part of the action's effect; equal to the prediction computed apart"
)
LAST_WITH_INFO = (
    "converged critic of the newest observations and m_t: exact here only because m_t tells the last reward, which on this "
    "problem gives away the state and the joint action it came from"
)
NOT_CONVERGED = "the critic's values are off by normal numbers of deviation 0.5; equal to the prediction computed apart"
GAE_ONE = "lambda=1 telescopes to G_t - V(h_t): unbiased with any critic"
Q_EXACT = "advantage Q(h_t, a_t), converged"


def critic_reads(algorithm: str, n_agents: int) -> dict[str, tuple[int, ...]]:
    """Critics by name and the agents each reads: one of all (CC), or one per agent (DC)."""
    everyone = tuple(range(n_agents))
    return {"critic": everyone} if algorithm == "collm-cc" else {f"critic_agent_{i}": (i,) for i in everyone}


class Critics:
    """An actor-critic method's critics on a problem: what they read, their tables, and the advantages these predict."""

    def __init__(self, exact: Exact, algorithm: str, history: Literal["full", "last"], kind: Kind = "v", info: bool = True) -> None:
        self._exact, self._algorithm = exact, algorithm
        reads = critic_reads(algorithm, exact.n_agents)
        self.texts = {name: CriticTexts(exact, agents, history, kind, info) for name, agents in reads.items()}

    def converged(self) -> dict[str, Table]:
        return {name: texts.converged() for name, texts in self.texts.items()}

    def predicted(self, tables: Mapping[str, Table], lam: float = 0.0, n_step: int | None = None) -> list[np.ndarray]:
        """E[ sum_t grad log pi_i A_{i,t} ] with these values, per agent (D,)."""
        return self._exact.gradient(self.coefficients(tables, lam, n_step))

    def coefficients(self, tables: Mapping[str, Table], lam: float = 0.0, n_step: int | None = None) -> np.ndarray:
        """What each grad log pi counts in that, (Y,)."""
        exact = self._exact
        columns = {name: _advantages(exact, texts.values(tables[name]), lam, n_step) for name, texts in self.texts.items()}
        names = ["critic"] * exact.n_agents if self._algorithm == "collm-cc" else list(columns)
        return exact.score_coefficients(np.stack([columns[name] for name in names], axis=-1))


def _advantages(exact: Exact, value_RH: np.ndarray, lam: float, n_step: int | None) -> np.ndarray:
    if n_step is None:
        return lambda_advantages(exact, value_RH, lam)
    gamma, found_RH = exact.problem.discount, np.zeros_like(exact.reward_RH)
    for t in range(exact.horizon):
        stop = min(t + n_step, exact.horizon)
        found_RH[:, t] = sum(gamma ** (s - t) * exact.reward_RH[:, s] for s in range(t, stop))
        # After an early end the rewards are 0 and so is the value.
        found_RH[:, t] += gamma ** (stop - t) * value_RH[:, stop] - value_RH[:, t]
    return found_RH * exact.alive_RH


def gradient(
    bench: Bench,
    algorithm: str,
    problem: str,
    tables: Mapping[str, Table],
    *,
    history: Literal["full", "last"] = "full",
    keep: Callable[[Stored], bool] = lambda _: True,
    critic: Mapping[str, object] | None = None,
    **settings: Any,
) -> list[np.ndarray]:
    """Production's expected gradient per agent (D,) with these critics."""
    cast = bench.cast(problem)
    config = lab_config(cast, algorithm, history=history, algorithm=settings, critic=critic)
    assert has_critics(make_method(config))
    return expected_gradient(config, cast, bench.episodes(problem, TreeShape(), history), tables, keep=keep)


def converged_rows(bench: Bench, algorithm: str, problem: str, label: str) -> Iterator[Row]:
    """Converged critics: unbiased in both turn weights and at every turn alone, with V and with Q."""
    exact = bench.exact(problem)
    tables = Critics(exact, algorithm, "full").converged()
    true = exact.gradient(exact.coefficients("paper"))
    why = DC_EXACT if algorithm == "collm-dc" else ""
    H = f"H={exact.horizon}"
    yield exact_row(label, f"{H}, converged critic", problem, gradient(bench, algorithm, problem, tables), true, why)
    found = gradient(bench, algorithm, problem, tables, turn_weight="discounted")
    yield exact_row(
        label, f"{H}, converged critic, discounted", problem, found, exact.gradient(exact.coefficients("discounted")), DISCOUNTED
    )
    for t in range(exact.horizon):
        alone = gradient(bench, algorithm, problem, tables, keep=lambda s, t=t: s.transition.turn == t)
        yield exact_row(label, f"{H}, turn {t} alone", problem, alone, exact.gradient(exact.coefficients("paper", [t])), EACH_TURN)
    q_tables = Critics(exact, algorithm, "full", "q").converged()
    found = gradient(bench, algorithm, problem, q_tables, critic={"kind": "q"})
    yield exact_row(label, f"{H}, converged Q critic", problem, found, true, Q_EXACT)


def wrong_critic_rows(bench: Bench, algorithm: str, problem: str, label: str) -> Iterator[Row]:
    """A critic that has not converged: the bias of GAE falls to 0 at lambda = 1; of n-step returns at n = H."""
    exact = bench.exact(problem)
    critics = Critics(exact, algorithm, "full")
    tables = {name: wrong(table, WRONG) for name, table in critics.converged().items()}
    true = exact.gradient(exact.coefficients("paper"))
    errors: list[float] = []
    for lam in (0.0, 0.5, 0.9):
        found = gradient(bench, algorithm, problem, tables, gae_lambda=lam)
        row = biased_row(label, f"wrong critic, lambda={lam:g}", problem, found, true, critics.predicted(tables, lam), NOT_CONVERGED)
        errors.append(row.error or 0.0)
        yield row
    found = gradient(bench, algorithm, problem, tables, gae_lambda=1.0)
    yield exact_row(label, "wrong critic, lambda=1", problem, found, true, GAE_ONE)
    found = gradient(bench, algorithm, problem, tables, n_step=2)
    yield biased_row(label, "wrong critic, n_step=2", problem, found, true, critics.predicted(tables, n_step=2), NOT_CONVERGED)


def forgetting_rows(bench: Bench, algorithm: str, problem: str) -> Iterator[Row]:
    """Critics that read no more than the newest observations, converged as far as that goes, with m_t and without."""
    exact = bench.exact(problem, "last")
    true = exact.gradient(exact.coefficients("paper"))
    with_info = Critics(exact, algorithm, "last").converged()
    found = gradient(bench, algorithm, problem, with_info, history="last")
    yield exact_row(algorithm, "history: last, m_t as text", problem, found, true, LAST_WITH_INFO)
    critics = Critics(exact, algorithm, "last", info=False)
    tables = critics.converged()
    found = gradient(bench, algorithm, problem, tables, history="last", critic={"global_info": "none"})
    yield biased_row(algorithm, "history: last, no m_t", problem, found, true, critics.predicted(tables), LAST)
    if algorithm == "collm-dc":
        yield from _amnesia_row(bench, problem)


def _amnesia_row(bench: Bench, problem: str) -> Iterator[Row]:
    """Agents with a full history whose critics only use the newest observation of it."""
    exact = bench.exact(problem)
    whole, newest = Critics(exact, "collm-dc", "full"), Critics(exact, "collm-dc", "last", info=False)
    best = newest.converged()
    tables: dict[str, Table] = {}
    for name, texts in whole.texts.items():
        pairs = zip(texts.text_RH, newest.texts[name].text_RH, strict=True)
        tables[name] = {full: best[name][last] for fulls, lasts in pairs for full, last in zip(fulls, lasts, strict=True)}
    found = gradient(bench, "collm-dc", problem, tables)
    true = exact.gradient(exact.coefficients("paper"))
    yield biased_row("collm-dc", "critic that forgets", problem, found, true, whole.predicted(tables), DC_FORGETS)
