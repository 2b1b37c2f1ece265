"""A team on the whole test split under one protocol: everything that a row of `collm eval` says (docs/evaluation.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np

from collm.config.schema import Config
from collm.envs.base import TextEnv
from collm.evaluation.bootstrap import clustered_interval
from collm.evaluation.evaluator import play, summarise
from collm.evaluation.pass_at_k import SHOWN, mean_pass_at_k, pass_at_k
from collm.evaluation.protocols import Protocol, TurnSettings
from collm.evaluation.talks import JointTurn, Talks
from collm.evaluation.timing import response_time
from collm.models.seeds import derive_seed
from collm.models.team import Policy
from collm.rollout.describe import describe
from collm.types import Episode, TaskRow

PASSED = "passed_all"
"""The environment's metric that says whether an answer passed every test, for pass@k."""


@dataclass(frozen=True, slots=True)
class Played:
    """Episodes, row by row, and the joint turns of each."""

    episodes: list[Episode]
    turns: list[list[JointTurn]]

    def described(self) -> list[dict[str, Any]]:
        """Each episode as `describe` gives it; where agents heard one another, every turn with its `phases`."""
        found = [describe(episode) for episode in self.episodes]
        for episode, turns in zip(found, self.turns, strict=True):
            for action, turn in zip(episode["turns"], turns, strict=True):
                if len(turn) > 1:
                    action["phases"] = [{a: {"message": said.message, "text": said.text} for a, said in phase.items()} for phase in turn]
        return found


def evaluate_protocol(
    config: Config,
    protocol: Protocol,
    rows: Sequence[TaskRow | None],
    make_env: Callable[[], TextEnv],
    policies: Mapping[str, Policy],
    executor: Executor,
    on_turn: Callable[[], None],
    per_row: int,
    seed: int,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Play `per_row` sampled episodes and a greedy one of every test row under a protocol, and time some joint turns.

    Returns the results, JSON-ready, and the episodes for people. Raises EnvContractError and ContextOverflowError naming
    agent and episode.
    """
    played: dict[bool, Played] = {}
    for greedy in (False, True):
        talks = Talks(protocol, TurnSettings(config.history, config.evaluation.discussion_rounds))
        count = 1 if greedy else per_row
        episodes = play(config, rows, make_env, policies, executor, on_turn, count, seed, greedy=greedy, answer=talks)
        played[greedy] = Played(episodes, [talks.turns[e.id] for e in episodes])
    results = _results(played[False], played[True], len(rows), config.evaluation.bootstrap, derive_seed(seed, "bootstrap"))
    results |= _timed(played[False], policies, config.evaluation.timed_turns)
    return results, played[False].described() + played[True].described()


def _results(sampled: Played, greedy: Played, n_rows: int, resamples: int, seed: int) -> dict[str, Any]:
    per_row = len(sampled.episodes) // n_rows
    lengths = np.array([len(e.transitions) for e in sampled.episodes], dtype=float)
    agents = sampled.episodes[0].agents
    written = {a: np.array([_written(turns, a) for turns in sampled.turns], dtype=float) for a in agents}
    read = sum(len(said.request.context_ids) for turns in sampled.turns for turn in turns for phase in turn for said in phase.values())
    cost = np.sum(list(written.values()), axis=0) / (len(agents) * lengths)

    def interval(values: np.ndarray, weights: np.ndarray) -> list[float]:
        return list(clustered_interval(values.reshape(n_rows, per_row), weights.reshape(n_rows, per_row), resamples, seed)[1])

    each = np.ones(len(sampled.episodes))
    summary = summarise(sampled.episodes, resamples, seed)
    intervals = {
        "return": interval(np.array([e.discounted_return(1.0) for e in sampled.episodes]), each),
        "turns": interval(lengths, each),
        "terminated": interval(np.array([float(e.transitions[-1].terminated) for e in sampled.episodes]), each),
        # A mean over turns, of which episodes have more or fewer.
        "cost_tokens": interval(cost, lengths),
        "metrics": {name: interval(*_metric(sampled.episodes, name)) for name in summary.metrics},
    }
    return {
        **summary.as_dict(),
        "greedy": summarise(greedy.episodes, resamples, seed).as_dict(),
        "rows": n_rows,
        "samples_per_row": per_row,
        "ci95": intervals,
        "cost_tokens": float((cost * lengths).sum() / lengths.sum()),
        "cost_tokens_by_agent": {a: float(tokens.sum() / lengths.sum()) for a, tokens in written.items()},
        "prompt_tokens": read / (len(agents) * lengths.sum()),
        "dropped_turns": sum(max(t.dropped_turns for t in e.transitions[-1].turns.values()) for e in sampled.episodes),
        **_passes(sampled.episodes, n_rows, resamples, seed),
    }


def _written(turns: Sequence[JointTurn], agent: str) -> int:
    """Tokens that an agent generated in all calls of an episode."""
    return sum(len(phase[agent].generation.response_ids) for turn in turns for phase in turn if agent in phase)


def _metric(episodes: Sequence[Episode], name: str) -> tuple[np.ndarray, np.ndarray]:
    """The last turn's value of a metric in each episode, and 1 where there is one."""
    last = [e.transitions[-1].metrics for e in episodes]
    return np.array([m.get(name, 0.0) for m in last]), np.array([float(name in m) for m in last])


def _passes(episodes: Sequence[Episode], n_rows: int, resamples: int, seed: int) -> dict[str, Any]:
    """pass@k for every shown k that the samples allow, where the environment says what passed.

    The interval draws problems only: drawing samples as well would repeat some, and pass@k of repeats is too low.
    """
    if any(PASSED not in e.transitions[-1].metrics for e in episodes):
        return {}
    per_row = len(episodes) // n_rows
    passed = [int(_metric(episodes[r * per_row : (r + 1) * per_row], PASSED)[0].sum()) for r in range(n_rows)]
    means: dict[str, float] = {}
    intervals: dict[str, list[float]] = {}
    for k in [k for k in SHOWN if k <= per_row]:
        of_rows = np.array([[pass_at_k(per_row, c, k)] for c in passed])
        means[str(k)] = mean_pass_at_k(per_row, passed, k)
        intervals[str(k)] = list(clustered_interval(of_rows, np.ones_like(of_rows), resamples, seed)[1])
    return {"pass_at_k": means, "pass_at_k_ci95": intervals}


def _timed(sampled: Played, policies: Mapping[str, Policy], count: int) -> dict[str, Any]:
    if count == 0:
        return {"seconds_per_joint_turn": None, "timed_turns": 0}
    measured = response_time([turn for turns in sampled.turns for turn in turns], policies, count)
    return {"seconds_per_joint_turn": measured.seconds, "timed_turns": measured.turns, "timed_on": measured.device}
