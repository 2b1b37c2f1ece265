"""The Monte-Carlo family on enumerated trees (method.md section 3)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from collm.rollout.branch import TreeShape
from collm.verify.exact import Exact, TurnWeight
from collm.verify.learner import expected_gradient, lab_config
from collm.verify.problems import Bench
from collm.verify.table import Row, biased_row, exact_row

COUPLED = "siblings with equal histories are made to answer alike: the mean of a sum over nodes does not depend on their independence"
CROSSED_MEAN = (
    "crossed: an agent's return for its sample k is the mean over the joint actions that contain it, and a node at turn t counts 1/K^(n t)"
)
MAGRPO_SCALE = (
    "without the division by the deviation the group mean contains the sample itself: the expectation is (K-1)/K times the gradient, "
    "exactly; error and cosine are against the scaled gradient"
)
MAGRPO_STD = (
    "dividing by the group's deviation weighs groups by the inverse of their spread; equal to a sum over all K-tuples computed apart"
)
GROUP_MAX = "the maximum contains the sample itself; equal to a sum over all K-tuples computed apart"
DISCOUNTED = "algorithm.turn_weight=discounted: turn t counts gamma^t, the gradient of E[sum_t gamma^t r_t]; else Eq. 1 without gamma^t"


@dataclass(frozen=True, slots=True)
class Case:
    """A kind of tree on a problem. `couple`: see `enumerate_episodes`."""

    check: str
    problem: str
    shape: TreeShape
    turn_weight: TurnWeight = "paper"
    history: Literal["full", "last"] = "full"
    couple: bool = False
    note: str = ""


SINGLE = (
    Case("K=2, H=2", "solo", TreeShape(2)),
    Case("K=2, H=2, discounted", "solo", TreeShape(2), "discounted", note=DISCOUNTED),
)
TEAM = (
    Case("K=2, H=2", "pair", TreeShape(2)),
    Case("K=3, H=1, 2 tokens", "words", TreeShape(3)),
    Case("K=2, H=1, n=3", "trio", TreeShape(2)),
    Case("K=2, H=1, n=3, crossed", "trio", TreeShape(2, "crossed"), note=CROSSED_MEAN),
    Case("K=2, H=2, crossed", "cross", TreeShape(2, "crossed"), couple=True, note=COUPLED),
    Case("K=2, H=2, crossed, discounted", "cross", TreeShape(2, "crossed"), "discounted", couple=True, note=DISCOUNTED),
)
CHAINS = (
    Case("K=1, H=1, 3 tokens", "talk", TreeShape()),
    Case("K=1, H=3", "long", TreeShape()),
    Case("K=1, H=3, discounted", "long", TreeShape(), "discounted", note=DISCOUNTED),
    Case("K=1, H=3, history: last", "long", TreeShape(), history="last"),
)


def tree_gradient(bench: Bench, algorithm: str, case: Case, **monte_carlo: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The expected gradient of production over all trees, and the exact one; per agent (D,)."""
    greedy = algorithm == "maremax" and monte_carlo.get("baseline") != "group_max"
    cast, exact = bench.cast(case.problem), bench.exact(case.problem, case.history)
    settings = {"samples": case.shape.samples, "joint_mode": case.shape.joint_mode, **monte_carlo}
    config = lab_config(cast, algorithm, history=case.history, algorithm={"turn_weight": case.turn_weight}, monte_carlo=settings)
    episodes = bench.episodes(case.problem, replace(case.shape, greedy_baseline=greedy), case.history, case.couple)
    return expected_gradient(config, cast, episodes), exact.gradient(exact.coefficients(case.turn_weight))


def unbiased_row(bench: Bench, algorithm: str, case: Case, label: str) -> Row:
    """An unbiased member of the family on one kind of tree; MAGRPO against (K-1)/K times the gradient."""
    found, exact = tree_gradient(bench, algorithm, case)
    if algorithm != "magrpo":
        return exact_row(label, case.check, case.problem, found, exact, case.note)
    K = case.shape.samples
    return exact_row(label, f"{case.check}: (K-1)/K grad J", case.problem, found, [(K - 1) / K * g for g in exact], MAGRPO_SCALE)


def unbiased_rows(bench: Bench, algorithm: str, label: str, cases: Sequence[Case]) -> Iterator[Row]:
    """A method on several kinds of trees."""
    for case in cases:
        yield unbiased_row(bench, algorithm, case, label)


def tuple_coefficients(exact: Exact, samples: int, advantages: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """What each grad log pi counts in E[ 1/K sum_k grad log pi(a^k) A^k ] over all K-tuples of one-turn trajectories, (Y,)."""
    probability_R, return_R = exact.probability_R, exact.return_RH[:, 0]
    found_Y = np.zeros(len(exact.index))
    for start, first in enumerate(exact.problem.initial):
        # The K samples of a node share its start; given that they are independent.
        own = [r for r, trajectory in enumerate(exact.trajectories) if trajectory.start == start]
        for ks in itertools.product(own, repeat=samples):
            probability = first.probability * (probability_R[list(ks)] / first.probability).prod()
            A_K = advantages(return_R[list(ks)]) * probability / samples
            np.add.at(found_Y, exact.triple_RHN[list(ks), 0], A_K[:, None])
    return found_Y


def standardised(G_K: np.ndarray) -> np.ndarray:
    """(G - mean) / deviation, with K - 1 in the deviation; 0 for a group of equals."""
    spread = np.sqrt(((G_K - G_K.mean()) ** 2).sum() / (len(G_K) - 1))
    return (G_K - G_K.mean()) / spread if spread > 1e-8 else np.zeros_like(G_K)


def magrpo_std_row(bench: Bench, label: str, problem: str, samples: int) -> Iterator[Row]:
    """MAGRPO with the division by the standard deviation: biased, by exactly so much."""
    exact, case = bench.exact(problem), Case(f"K={samples}, H=1, divided by std", problem, TreeShape(samples))
    found, true = tree_gradient(bench, "magrpo", case, divide_by_std=True)
    predicted = exact.gradient(tuple_coefficients(exact, samples, standardised))
    yield biased_row(label, case.check, problem, found, true, predicted, MAGRPO_STD)


def group_max_row(bench: Bench, label: str, problem: str, samples: int) -> Iterator[Row]:
    """MAReMax with the group's maximum as baseline."""
    exact, case = bench.exact(problem), Case(f"K={samples}, H=1, baseline: group_max", problem, TreeShape(samples))
    found, true = tree_gradient(bench, "maremax", case, baseline="group_max")
    predicted = exact.gradient(tuple_coefficients(exact, samples, lambda G_K: G_K - G_K.max()))
    yield biased_row(label, case.check, problem, found, true, predicted, GROUP_MAX)
