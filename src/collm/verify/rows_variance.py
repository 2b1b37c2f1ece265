"""The variance of the K-sample estimator (Prop. 4.2), from the credits production gives to every enumerated tree.

At a node of turn t the estimator is 1/K sum_k grad log pi(a^k|h_t) G^k, where G^k averages the K^(H-t-1) leaves below sample k.
Given the node (its history and hidden state) its samples are independent; the leaves below one sample share its action. With

    X_j = E[ grad log pi(a_t|h_t) G_t | all up to turn j's joint action and what chance made of it ]
    W_j = E|X_j|^2 - E|X_{j-1}|^2   (j = t .. H-1, X_{t-1} the mean given the node)

the law of total variance gives Var = sum_j W_j / K^(j-t+1), and sigma^2 = sum_j W_j is the variance of one trajectory. Prop. 4.2's
sigma^2 / K^(H-t) is the case W_j = 0 for all j < H-1: uncorrelated leaves. Variances are traces; values of all agents count.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from collm.algorithms.registry import make_method
from collm.models.generation import GenerationRequest
from collm.rollout.branch import TreeShape
from collm.training.buffer import Stored
from collm.training.learner import Learner
from collm.verify.enumerate import Inline, Responses, Weighted, enumerate_episodes
from collm.verify.exact import Exact
from collm.verify.learner import lab_config, lab_team
from collm.verify.problems import Bench
from collm.verify.table import Row, variance_row

ASSUMED = (
    "Prop. 4.2's sigma^2/K^(H-t) at a node of turn t, where its assumptions hold: rewards only on the last turn, of mean 0 whatever was "
    "done before, and no early end"
)
GENERAL = (
    "in general the leaves below one sample share its action and are correlated: the variance is sum_j W_j/K^(j-t+1) by the law of total "
    "variance (theory column), more than the proposition's sigma^2/K^(H-t) by the factor in the row"
)


@dataclass(frozen=True, slots=True)
class Levels:
    """W_j of the turns from t on; sigma^2 is their sum."""

    W: list[float]

    def variance(self, samples: int) -> float:
        return sum(w / samples ** (j + 1) for j, w in enumerate(self.W))

    def proposition(self, samples: int) -> float:
        return sum(self.W) / samples ** len(self.W)


def variance_rows(bench: Bench) -> Iterator[Row]:
    """MA-REINFORCE's node estimator where the assumptions hold, and where they do not."""
    for problem, samples, turn in (("coin-2-2", 2, 0), ("coin-2-2", 2, 1), ("coin-1-3", 2, 0)):
        exact, node = bench.exact(problem), _first_node(samples, turn)
        # Nothing measured depends on the other nodes' responses, so these are fixed.
        trees = enumerate_episodes(bench.cast(problem), TreeShape(samples), free=_only_at(node))
        levels = _levels(exact, _probability_if_only(bench, problem, turn), turn)
        measured = _node_variance(_coefficients(bench, problem, samples, trees, node, turn), trees, exact, node)
        check = f"variance, K={samples}, H={exact.horizon}, t={turn}"
        yield variance_row("ma-reinforce", check, problem, measured, levels.proposition(samples), ASSUMED)
    for problem, samples, turn in (("words", 3, 0), ("solo", 2, 0), ("pair", 2, 0), ("pair", 2, 1)):
        exact, node = bench.exact(problem), _first_node(samples, turn)
        trees = bench.episodes(problem, TreeShape(samples))
        levels = _levels(exact, exact.probability_R, turn)
        measured = _node_variance(_coefficients(bench, problem, samples, trees, node, turn), trees, exact, node)
        factor = measured / levels.proposition(samples)
        check = f"variance, K={samples}, H={exact.horizon}, t={turn}: {factor:.2f} x Prop. 4.2"
        yield variance_row("ma-reinforce", check, problem, measured, levels.variance(samples), GENERAL)


def _first_node(samples: int, turn: int) -> int:
    """Index of the joint action that leads to the first node of a turn (0 or 1; -1 is the root): depths follow one another."""
    assert turn <= 1
    return turn - 1


def _only_at(node: int) -> Callable[[GenerationRequest], bool]:
    """Requests of this node; a request's key is (episode, agent, node, sample)."""
    return lambda request: request.key[2] == node  # type: ignore[index]


def _probability_if_only(bench: Bench, problem: str, turn: int) -> np.ndarray:
    """Of every trajectory, (R,), where the agents sample at `turn` and answer greedily at all others."""
    exact = bench.exact(problem)
    responses = [Responses(bench.cast(problem), i) for i in range(exact.n_agents)]
    found_R = exact.chance_R.copy()
    for r, trajectory in enumerate(exact.trajectories):
        for t, step in enumerate(trajectory.steps):
            for i, (context, response) in enumerate(zip(step.contexts, step.responses, strict=True)):
                options, probabilities, greedy = responses[i][context]
                found_R[r] *= probabilities[options.index(response)] if t == turn else float(response == greedy)
    return found_R


def _coefficients(bench: Bench, problem: str, samples: int, trees: Sequence[Weighted], node: int, turn: int) -> np.ndarray:
    """What each grad log pi counts in production's estimate at that node of every tree, (trees, Y)."""
    cast, exact = bench.cast(problem), bench.exact(problem)
    config = lab_config(cast, "ma-reinforce", monte_carlo={"samples": samples})
    learner = Learner(config, lab_team(config, cast), make_method(config), Inline())
    stored = [Stored(w.episode, a) for w in trees for a in range(len(w.episode.transitions))]
    credits, _ = learner._credits(stored, None)
    row = {w.episode.id: x for x, w in enumerate(trees)}
    found = np.zeros((len(trees), len(exact.index)))
    for s in stored:
        if s.transition.node == node:
            for i, name in enumerate(exact.problem.names):
                turn_of_agent = s.transition.turns[name]
                y = exact.index[i, turn_of_agent.context_ids, turn_of_agent.response_ids]
                # The tree's K^t nodes of this turn count 1/K^t each; the estimator at one of them counts it whole.
                found[row[s.key[0]], y] += credits.advantages[name][s.key] * credits.weights[name][s.key] * samples**turn
    return found


def _node_variance(coefficient_XY: np.ndarray, trees: Sequence[Weighted], exact: Exact, node: int) -> float:
    """E |g - E[g | node]|^2 over trees X, where g = sum_y c_y grad log pi_y."""
    score_YD = exact.scores()
    gradient_XD = coefficient_XY @ score_YD
    probability_X = np.array([w.probability for w in trees])
    nodes = [_node_key(w, node) for w in trees]
    return float(probability_X @ (gradient_XD**2).sum(-1)) - _mean_square(gradient_XD, probability_X, nodes)


def _node_key(weighted: Weighted, node: int) -> Hashable:
    """What happened up to a node: responses and chance, which tell history and hidden state."""
    if node < 0:
        return ()
    path = (weighted.episode.transitions[a] for a in weighted.episode.path(node))
    return tuple((tuple(turn.text for turn in tr.turns.values()), tr.metrics["outcome"]) for tr in path)


def _levels(exact: Exact, probability_R: np.ndarray, turn: int) -> Levels:
    """W_j from `turn` on, by sums over trajectories with these probabilities."""
    score_YD = exact.scores()
    triple_RN = exact.triple_RHN[:, turn]
    score_RD = np.where(triple_RN[:, :, None] >= 0, score_YD[triple_RN], 0.0).sum(1)
    term_RD = score_RD * exact.return_RH[:, turn, None]
    steps = [[(step.texts, step.outcome) for step in trajectory.steps] for trajectory in exact.trajectories]
    squares = [_mean_square(term_RD, probability_R, [tuple(row[:j]) for row in steps]) for j in range(turn, exact.horizon + 1)]
    return Levels([after - before for before, after in itertools.pairwise(squares)])


def _mean_square(vector_XD: np.ndarray, probability_X: np.ndarray, groups: Sequence[Hashable]) -> float:
    """E |E[v | group]|^2."""
    mass: dict[Hashable, float] = {}
    total: dict[Hashable, np.ndarray] = {}
    for v_D, p, group in zip(vector_XD, probability_X, groups, strict=True):
        mass[group] = mass.get(group, 0.0) + p
        total[group] = total.get(group, 0.0) + p * v_D
    return sum(float(total[g] @ total[g]) / mass[g] for g in mass if mass[g] > 0)
