"""A comparison as a page of tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from collm.reports.comparison import Comparison, RunFigures, Spread

_PAGE = """# Methods on {task} at {env_steps} env steps

![Return against env steps](comparison.png)

| method | seeds | held out, before | held out, final | area under the training curve | env steps | minutes |
|---|---|---|---|---|---|---|
{methods}

Mean over seeds (95 % percentile bootstrap interval over seeds). Returns are undiscounted sums of an episode's rewards; "held out" is
sampled on the test rows; the area is divided by the budget, so it is the mean return while training. An env step is one joint action
evaluated; a run ends with the first update that reaches the budget. Minutes are one run's wall clock.
{differences}
## Runs

| run | updates | env steps | held out, before | held out, final | greedy, final | area | minutes |
|---|---|---|---|---|---|---|---|
{runs}

In parentheses the 95 % bootstrap interval over the run's own evaluation episodes.
{closing}"""
_DIFFERENCES = """
## Differences of final held-out return

| a | b | mean of a - mean of b | seed pairs in which a is higher |
|---|---|---|---|
{rows}

Difference with its 95 % percentile bootstrap interval, the seeds of a and of b resampled independently; the share is of all pairs
(a seed of a, a seed of b), a tie counting half.
"""


def page(comparison: Comparison, origin: Mapping[str, Any]) -> str:
    """The tables as Markdown; `origin` says how the runs were made (command, machine), where that is known."""
    return _PAGE.format(
        task=comparison.task,
        env_steps=comparison.env_steps,
        methods="\n".join(_method(comparison, method) for method in comparison.runs),
        differences=_differences(comparison),
        runs="\n".join(_run(run) for runs in comparison.runs.values() for run in runs),
        closing="".join(_closing(comparison, origin)),
    )


def summary_tables(comparison: Comparison) -> list[Table]:
    """The methods and their differences for a console."""
    methods = Table(
        title="Mean over seeds (95 % bootstrap interval)", title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    for column in ("method", "seeds", "before", "final (held out)", "area (training)", "steps"):
        methods.add_column(column, justify="left" if column == "method" else "right", no_wrap=True)
    for method, runs in comparison.runs.items():
        final, area = (_over_seeds(comparison, method, name) for name in ("final", "area"))
        before, steps = (comparison.spread(method, name)[0] for name in ("before", "env_steps"))
        methods.add_row(method, str(len(runs)), f"{before:.2f}", final, area, f"{steps:.0f}")
    differences = Table(
        title="Differences of final held-out return", title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    for column in ("a", "b", "mean of a - mean of b", "seed pairs with a higher"):
        differences.add_column(column, justify="left" if column in "ab" else "right")
    for d in comparison.differences():
        differences.add_row(d["a"], d["b"], _difference(d), f"{d['share_of_seed_pairs_a_above_b']:.0%}")
    return [methods, differences] if differences.row_count else [methods]


def _method(comparison: Comparison, method: str) -> str:
    before, final, area = (_over_seeds(comparison, method, name) for name in ("before", "final", "area"))
    steps, seconds = (comparison.spread(method, name)[0] for name in ("env_steps", "seconds"))
    seeds = ", ".join(str(run.seed) for run in comparison.runs[method])
    return f"| {method} | {seeds} | {before} | {final} | {area} | {steps:.0f} | {seconds / 60:.1f} |"


def _differences(comparison: Comparison) -> str:
    rows = [f"| {d['a']} | {d['b']} | {_difference(d)} | {d['share_of_seed_pairs_a_above_b']:.0%} |" for d in comparison.differences()]
    return _DIFFERENCES.format(rows="\n".join(rows)) if rows else ""


def _run(run: RunFigures) -> str:
    before, after = (_spread((row["return_mean"], tuple(row["return_ci95"]))) for row in (run.before, run.after))
    greedy = run.after["greedy"]["return_mean"]
    return (
        f"| {run.folder} | {run.updates} | {run.env_steps} | {before} | {after} | {greedy:.2f} | {run.area:.2f} | {run.seconds / 60:.1f} |"
    )


def _over_seeds(comparison: Comparison, method: str, figure: str) -> str:
    spread = comparison.spread(method, figure)
    return _spread(spread) if len(comparison.runs[method]) > 1 else f"{spread[0]:.2f} (one seed)"


def _spread(spread: Spread) -> str:
    mean, (low, high) = spread
    return f"{mean:.2f} ({low:.2f} to {high:.2f})"


def _difference(row: Mapping[str, Any]) -> str:
    interval = row["ci95"]
    return f"{row['difference']:+.2f} " + (f"({interval[0]:+.2f} to {interval[1]:+.2f})" if interval else "(one seed)")


def _closing(comparison: Comparison, origin: Mapping[str, Any]) -> list[str]:
    parts = []
    if comparison.unfinished:
        parts.append(f"\nUnfinished and left out: {', '.join(comparison.unfinished)}.\n")
    if "command" in origin:
        parts.append(f"\nMade with\n\n```sh\n{origin['command']}\n```\n")
    if "machine" in origin:
        facts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in origin["machine"].items() if value is not None)
        parts.append(f"\nMachine: {facts}.\n")
    return parts
