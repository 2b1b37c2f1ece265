"""Figures of a comparison: methods against methods at equal env steps, over seeds.

A comparison's folder holds one run folder per method and seed, `METHOD-seedS`. Everything is computed from these.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from collm.config import presets
from collm.config.load import load_config_file
from collm.errors import RunFolderError
from collm.evaluation.bootstrap import mean_interval
from collm.reports.read import rows

RESAMPLES = 10_000
_FEWEST_BINS, _MOST_BINS = 12, 40
Spread = tuple[float, tuple[float, float]]
"""A mean over seeds and its 95 % percentile bootstrap interval."""


@dataclass(frozen=True, slots=True)
class RunFigures:
    """One finished run. Returns are undiscounted sums of an episode's rewards; an env step is a joint action evaluated."""

    method: str
    seed: int
    folder: str
    updates: int
    env_steps: int
    before: Mapping[str, Any]
    """Row of eval.jsonl of the untrained team, on the held-out rows."""
    after: Mapping[str, Any]
    """Row of eval.jsonl of the trained team."""
    area: float
    """Mean training return over the budget: the area under the training curve / its length."""
    seconds: float
    """Wall clock of rollouts, updates and evaluations, all sittings."""
    curve: tuple[np.ndarray, np.ndarray]
    """Env steps after each update (updates,) and the mean training return of its rollout (updates,)."""

    @property
    def final_return(self) -> float:
        return float(self.after["return_mean"])


@dataclass(frozen=True, slots=True)
class Comparison:
    """A comparison's finished runs by method, in the order of `collm list methods`."""

    task: str
    env_steps: int
    """Budget of every run."""
    runs: Mapping[str, list[RunFigures]]
    unfinished: list[str]
    """Names of run folders that are left out."""

    def spread(self, method: str, figure: str) -> Spread:
        """Mean and interval over seeds of before, final, area, env_steps or seconds."""
        return mean_interval([_figure(run, figure) for run in self.runs[method]], RESAMPLES, 0)

    def curves(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Middles of the bins of env steps (bins,), and per method mean, low and high of the training return (3, bins).

        A run's return is a step function of env steps: an update's rollout counts for the steps it took. A bin is as wide as
        the longest update where the budget allows 12 to 40 such, the same for every method; a run's value in it is the function's
        mean there.
        """
        longest = max(np.diff(run.curve[0], prepend=0).max() for runs in self.runs.values() for run in runs)
        count = int(np.clip(self.env_steps // longest, _FEWEST_BINS, _MOST_BINS))
        edges = np.linspace(0, self.env_steps, count + 1)
        drawn = {method: _band(np.stack([_bin_means(*run.curve, edges) for run in runs])) for method, runs in self.runs.items()}
        return (edges[:-1] + edges[1:]) / 2, drawn

    def differences(self) -> list[dict[str, Any]]:
        """Every pair of methods: difference of mean final return with its interval, and the share of seed pairs that a wins."""
        found = []
        for a, b in combinations(self.runs, 2):
            mean, interval = difference_interval(self._final(a), self._final(b))
            one_seed = min(len(self.runs[a]), len(self.runs[b])) == 1
            found.append(
                {
                    "a": a,
                    "b": b,
                    "difference": mean,
                    # Resampling a single seed knows nothing of how seeds differ.
                    "ci95": None if one_seed else list(interval),
                    "share_of_seed_pairs_a_above_b": share_above(self._final(a), self._final(b)),
                }
            )
        return found

    def _final(self, method: str) -> list[float]:
        return [run.final_return for run in self.runs[method]]


def read_comparison(folder: Path) -> Comparison:
    """The finished runs in a comparison's folder. Raises RunFolderError where there is none, or their budgets differ."""
    present = run_folders(folder)
    done = [(method, seed, run) for (method, seed), run in present.items() if is_finished(run)]
    if not done:
        held = f"its {len(present)} runs are unfinished" if present else "it holds no run folder METHOD-seedS"
        raise RunFolderError(f"{folder}: nothing to compare, {held}; `collm compare TASK --env-steps N --run-dir {folder}` makes the runs")
    configs = {run: load_config_file(run / "config.yaml") for _, _, run in done}
    budgets = {config.training.env_steps for config in configs.values()}
    (budget,) = budgets if len(budgets) == 1 else (None,)
    if budget is None:
        told = ", ".join("none" if b is None else str(b) for b in sorted(budgets, key=str))
        raise RunFolderError(
            f"{folder}: runs compare at an equal budget, but training.env_steps of these is {told}; put them in folders apart"
        )
    runs: dict[str, list[RunFigures]] = {}
    for method, seed, run in done:
        runs.setdefault(method, []).append(_figures(method, seed, run, budget))
    task = next(iter(configs.values())).task
    finished = {run for _, _, run in done}
    return Comparison(task.env or task.name, budget, runs, [run.name for run in present.values() if run not in finished])


def run_folders(folder: Path) -> dict[tuple[str, int], Path]:
    """The run folders in a comparison's folder by (method, seed), in the order of `collm list methods`; empty where it is none."""
    order = presets.methods()
    found = {}
    for path in folder.glob("*-seed*") if folder.is_dir() else ():
        name = re.fullmatch(r"(.+)-seed(\d+)", path.name)
        if name and name[1] in order and (path / "config.yaml").is_file():
            found[name[1], int(name[2])] = path
    return dict(sorted(found.items(), key=lambda item: (order.index(item[0][0]), item[0][1])))


def is_finished(run_dir: Path) -> bool:
    """Whether a run is: its picture is the last thing it writes, after the final agents and critics."""
    return (run_dir / "plots" / "learning_curve.png").is_file() and (run_dir / "final").is_dir()


def difference_interval(a: Sequence[float], b: Sequence[float]) -> Spread:
    """mean(a) - mean(b) and its 95 % percentile bootstrap interval, the seeds of a and of b resampled apart."""
    rng = np.random.default_rng(0)
    means = [np.asarray(v)[rng.integers(0, len(v), size=(RESAMPLES, len(v)))].mean(axis=1) for v in (a, b)]
    low, high = np.percentile(means[0] - means[1], [2.5, 97.5])
    return float(np.mean(a) - np.mean(b)), (float(low), float(high))


def share_above(a: Sequence[float], b: Sequence[float]) -> float:
    """Share of all pairs (a seed of a, a seed of b) in which a's value is the higher; a tie counts half."""
    difference = np.subtract.outer(np.asarray(a), np.asarray(b))
    return float(np.mean((difference > 0) + 0.5 * (difference == 0)))


def _figures(method: str, seed: int, run: Path, budget: int) -> RunFigures:
    training, evaluations = rows(run, "metrics.jsonl"), rows(run, "eval.jsonl")
    last = training[-1]
    # `collm eval` may have appended rows since: the first row of an update is the run's own.
    after = next((row for row in evaluations if row["update"] == last["update"]), None)
    if after is None or last["env_steps"] < budget:
        raise RunFolderError(f"{run} ended at {last['env_steps']} of {budget} env steps; remove it and make it again with the same command")
    steps, returns = np.array([row["env_steps"] for row in training]), np.array([row["return_mean"] for row in training])
    seconds = sum(row["seconds_total"] for row in training) + sum(row.get("seconds_evaluate", 0.0) for row in evaluations)
    area = float(_bin_means(steps, returns, np.array([0.0, budget]))[0])
    return RunFigures(method, seed, run.name, last["update"], last["env_steps"], evaluations[0], after, area, seconds, (steps, returns))


def _figure(run: RunFigures, name: str) -> float:
    return {
        "before": run.before["return_mean"],
        "final": run.final_return,
        "area": run.area,
        "env_steps": run.env_steps,
        "seconds": run.seconds,
    }[name]


def _bin_means(steps: np.ndarray, values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Mean in each bin (bins,) of the step function that is values[u] on (steps[u - 1], steps[u]]; the last edge is <= the last step."""
    ends = np.concatenate([[0], steps])
    area = np.concatenate([[0.0], np.cumsum(values * np.diff(ends))])
    return np.diff(np.interp(edges, ends, area)) / np.diff(edges)


def _band(values: np.ndarray) -> np.ndarray:
    """Mean, low and high over seeds (3, bins) of values (seeds, bins)."""
    spreads = [mean_interval(column.tolist(), RESAMPLES, 0) for column in values.T]
    return np.array([[mean, low, high] for mean, (low, high) in spreads]).T
