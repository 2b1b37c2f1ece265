"""What the rollout costs (Prop. 4.3), whether it samples what was enumerated, and whether the laboratory agrees with itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import torch

from collm.models.seeds import derive_seed
from collm.rollout.asking import RolloutCost
from collm.rollout.branch import EpisodePlan, TreeShape
from collm.rollout.collect import collect
from collm.types import Episode
from collm.verify.dec_pomdp import LabEnv
from collm.verify.enumerate import rollout_settings
from collm.verify.exact import Trajectory
from collm.verify.learner import lab_config, lab_team
from collm.verify.problems import Bench
from collm.verify.table import Row, bound_row, calls_row, exact_row

LAB = "(laboratory)"
CALLS = "Prop. 4.3: a full aligned tree costs nK(K^H-1)/(K-1) inference calls; each depth's rows are answered in one batch per host"
CALLS_CROSSED = (
    "crossed: a node has K^n children, so a full tree costs nK(K^(nH)-1)/(K^n-1) inference calls for as many times more joint actions"
)
CALLS_GREEDY = "every sampled node also answers greedily to the end: n sum_t K^t (H-t) calls more, counted as env steps too"
CALLS_CHAIN = "actor-critic methods play one joint action a turn: nH calls an episode"
SAMPLES = 600
SAMPLED = (
    f"p-value of a chi-square test of {SAMPLES} trees sampled by the production rollout (fixed seed) against the enumerated "
    "probabilities of what happens at the root: both samples' responses and what chance made of each; PASS above 1e-3"
)
PLAYED = "largest difference between the probabilities of trajectories that production plays and those of the tables"
THEOREM = "grad J by autograd through J against the sum of grad log pi times returns: the policy-gradient theorem holds in the laboratory"


def calls_rows(bench: Bench, method: str, *, greedy: bool = False, chain: bool = False) -> Iterator[Row]:
    """Inference calls of real rollouts without early end against the closed forms."""
    if chain:
        cost, _ = _roll_out(bench, "calls-2", TreeShape(), 1)
        yield calls_row(method, "calls, n=2, H=3", "calls-2", cost.inference_calls, 2 * 3, CALLS_CHAIN)
        return
    cases: list[tuple[str, int, int, Literal["aligned", "crossed"]]] = [("calls-2", 2, 3, "aligned"), ("calls-3", 3, 2, "aligned")]
    for problem, samples, horizon, mode in [*cases, ("calls-3", 2, 2, "crossed")]:
        n = len(bench.cast(problem).problem.agents)
        cost, _ = _roll_out(bench, problem, TreeShape(samples, mode, greedy), 1)
        branching = samples if mode == "aligned" else samples**n
        theory = n * samples * (branching**horizon - 1) // (branching - 1)
        theory += n * sum(branching**t * (horizon - t) for t in range(horizon)) if greedy else 0
        note = CALLS_GREEDY if greedy else CALLS_CROSSED if mode == "crossed" else CALLS
        check = f"calls, n={n}, K={samples}, H={horizon}" + (", crossed" if mode == "crossed" else "")
        yield calls_row(method, check, problem, cost.inference_calls, theory, note)
        if not greedy and mode == "aligned":
            rows = calls_row(method, f"rows in the last batch, K={samples}, H={horizon}", problem, cost.peak_rows, samples**horizon, CALLS)
            yield rows


def laboratory_rows(bench: Bench) -> Iterator[Row]:
    """The laboratory itself: enumeration, exact sums and sampling agree."""
    exact = bench.exact("long")
    true = exact.gradient(exact.coefficients("discounted"))
    by_scores = exact.score_coefficients(exact.return_RH[:, :, None].repeat(exact.n_agents, -1), exact.problem.discount)
    yield exact_row(LAB, "policy-gradient theorem", "long", exact.gradient(by_scores), true, THEOREM)
    played: Counter[tuple] = Counter()
    for w in bench.episodes("long", TreeShape()):
        played[_played_key(w.episode)] += w.probability  # type: ignore[assignment]
    for p, trajectory in zip(exact.probability_R, exact.trajectories, strict=True):
        played[_computed_key(trajectory)] -= p  # type: ignore[assignment]
    worst = max(abs(difference) for difference in played.values())
    yield bound_row(LAB, "chains played and computed", "long", worst, worst < 1e-12, PLAYED)
    yield sampling_row(bench, "solo", TreeShape(2))
    yield sampling_row(bench, "trio", TreeShape(2, "crossed"))


def sampling_row(bench: Bench, problem: str, shape: TreeShape) -> Row:
    """Whether production samples what was enumerated, siblings' chance included."""
    p_value = _sampling_p_value(bench, problem, shape)
    return bound_row(LAB, f"sampled trees, {shape.joint_mode}: p-value", problem, p_value, p_value > 1e-3, SAMPLED)


def _roll_out(bench: Bench, problem: str, shape: TreeShape, count: int) -> tuple[RolloutCost, list[Episode]]:
    """Real rollouts: the production hosts generate, the environment draws from its seed."""
    cast = bench.cast(problem)
    config = lab_config(cast, "ma-reinforce", monte_carlo={"samples": 1})
    policies = lab_team(config, cast).policies
    plans = [EpisodePlan(f"{e:06d}", None, derive_seed("verify", problem, e)) for e in range(count)]
    with ThreadPoolExecutor(1) as executor:
        episodes, cost = collect(plans, lambda: LabEnv(cast.problem), policies, rollout_settings(shape, "full"), executor, lambda: None)
    return cost, episodes


def _sampling_p_value(bench: Bench, problem: str, shape: TreeShape) -> float:
    """Chi-square test of sampled root nodes against their enumerated law; cells expected less than 5 times are one."""
    expected: dict[tuple, float] = {}
    for w in bench.episodes(problem, shape):
        key = _root_key(w.episode)
        expected[key] = expected.get(key, 0.0) + SAMPLES * w.probability
    observed = Counter(_root_key(episode) for episode in _roll_out(bench, problem, shape, SAMPLES)[1])
    if set(observed) - set(expected):
        return 0.0
    large = [key for key, count in expected.items() if count >= 5]
    cells = [(float(observed[key]), expected[key]) for key in large]
    rest = sum(expected[key] for key in expected if key not in large)
    if rest > 0:
        cells.append((SAMPLES - sum(count for count, _ in cells), rest))
    statistic = sum((o - e) ** 2 / e for o, e in cells)
    half = torch.tensor([(len(cells) - 1) / 2, statistic / 2], dtype=torch.float64)
    return float(torch.special.gammaincc(half[0], half[1]))


def _root_key(episode: Episode) -> tuple:
    """What happened at the root: every sample's responses, and what chance made of every joint action."""
    roots = [tr for tr in episode.transitions if tr.parent is None]
    return tuple((*(turn.response_ids for turn in tr.turns.values()), tr.metrics["outcome"]) for tr in roots)


def _played_key(episode: Episode) -> tuple:
    steps: Sequence = [
        (tuple(t.context_ids for t in tr.turns.values()), tuple(t.response_ids for t in tr.turns.values()), tr.info.text, tr.reward)
        for tr in episode.transitions
    ]
    return (*steps, episode.transitions[-1].terminated)


def _computed_key(trajectory: Trajectory) -> tuple:
    steps = [(step.contexts, step.responses, step.info, step.reward) for step in trajectory.steps]
    return (*steps, trajectory.terminated)
