"""Evaluation of a team on the whole test split, greedy and sampled.

The same episode seeds are used at every evaluation of a run, so that before and after differ by the weights alone.
The return is the undiscounted sum of the team's rewards over an episode.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from collm.config.schema import Config
from collm.envs.base import TextEnv
from collm.evaluation.bootstrap import mean_interval
from collm.models.seeds import derive_seed
from collm.models.team import Policy
from collm.rollout.branch import EpisodePlan, RolloutSettings
from collm.rollout.collect import Answerer, collect
from collm.rollout.stepping import Stepper
from collm.types import Episode, StopReason, TaskRow


@dataclass(frozen=True, slots=True)
class Summary:
    """What a set of evaluation episodes came to."""

    episodes: int
    return_mean: float
    return_ci95: tuple[float, float]
    turns_mean: float
    terminated_share: float
    cut_share: float
    """Responses that hit the token limit, of all responses."""
    tokens_per_response: float
    metrics: dict[str, float] = field(default_factory=dict)
    """The environment's metrics: mean, over the episodes that have it, of the last turn's."""

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, flat but for `metrics`."""
        return {
            "return_mean": self.return_mean,
            "return_ci95": list(self.return_ci95),
            "episodes": self.episodes,
            "turns_mean": self.turns_mean,
            "terminated_share": self.terminated_share,
            "cut_share": self.cut_share,
            "tokens_per_response": self.tokens_per_response,
            "metrics": self.metrics,
        }


def summarise(episodes: Sequence[Episode], resamples: int, seed: int) -> Summary:
    """Reduce evaluation episodes to means; the interval is a bootstrap over episodes."""
    mean, interval = mean_interval([e.discounted_return(1.0) for e in episodes], resamples, seed)
    turns = [turn for e in episodes for tr in e.transitions for turn in tr.turns.values()]
    last = [e.transitions[-1].metrics for e in episodes]
    names = sorted({name for metrics in last for name in metrics})
    return Summary(
        episodes=len(episodes),
        return_mean=mean,
        return_ci95=interval,
        turns_mean=float(np.mean([len(e.transitions) for e in episodes])),
        terminated_share=float(np.mean([e.transitions[-1].terminated for e in episodes])),
        cut_share=float(np.mean([t.stop is StopReason.LENGTH for t in turns])),
        tokens_per_response=float(np.mean([len(t.response_ids) for t in turns])),
        metrics={name: float(np.mean([m[name] for m in last if name in m])) for name in names},
    )


def samples_per_row(episodes: int, rows: int) -> int:
    """How many sampled episodes each test row gets when `episodes` are spread evenly, at least one each."""
    return max(1, -(-episodes // rows))


def play(
    config: Config,
    rows: Sequence[TaskRow | None],
    make_env: Callable[[], TextEnv],
    policies: Mapping[str, Policy],
    executor: Executor,
    on_turn: Callable[[], None],
    per_row: int,
    seed: int,
    *,
    greedy: bool,
    answer: Answerer | None = None,
    stepper: Stepper | None = None,
) -> list[Episode]:
    """`per_row` episodes of every test row, row by row."""
    kind = "greedy" if greedy else "sampled"
    plans = [
        EpisodePlan(f"eval-{kind}-{r}-{k}", row, derive_seed(seed, "eval", kind, r, k))
        for r, row in enumerate(rows)
        for k in range(per_row)
    ]
    settings = RolloutSettings(config.history, config.context_window, greedy, 0, config.training.episodes_in_flight)
    return collect(plans, make_env, policies, settings, executor, on_turn, answer=answer, stepper=stepper)[0]


def evaluate(
    config: Config,
    rows: Sequence[TaskRow | None],
    make_env: Callable[[], TextEnv],
    policies: Mapping[str, Policy],
    executor: Executor,
    on_turn: Callable[[], None],
    episodes: int,
    seed: int,
    stepper: Stepper | None = None,
) -> tuple[Summary, Summary, list[Episode]]:
    """Play every test row: `episodes` sampled ones spread evenly (at least one per row), and one greedy one per row.

    Returns the sampled and the greedy summary and the sampled episodes.
    """
    per_row = samples_per_row(episodes, len(rows))
    sampled = play(config, rows, make_env, policies, executor, on_turn, per_row, seed, greedy=False, stepper=stepper)
    greedy = play(config, rows, make_env, policies, executor, on_turn, 1, seed, greedy=True, stepper=stepper)
    resamples, of_bootstrap = config.evaluation.bootstrap, derive_seed(seed, "bootstrap")
    return summarise(sampled, resamples, of_bootstrap), summarise(greedy, resamples, of_bootstrap), sampled
