"""The closing table of a run: the team before and after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table

from collm.reports.read import rows


def before_after(run_dir: Path) -> Table:
    """Held-out results of the first and the last evaluation, side by side. Raises RunFolderError where there is none."""
    evaluations = rows(run_dir, "eval.jsonl")
    before, after = evaluations[0], evaluations[-1]
    table = Table(
        title=f"Held-out results ({after['episodes']} sampled episodes, {after['env_steps']} env steps of training)", title_justify="left"
    )
    table.add_column("")
    table.add_column("before", justify="right")
    table.add_column("after", justify="right")
    table.add_column("change", justify="right")
    _add(table, "return, sampled", before, after, "return_mean")
    table.add_row("  95 % interval", _interval(before), _interval(after), "")
    _add(table, "return, greedy", before["greedy"], after["greedy"], "return_mean")
    for name in before["metrics"]:
        _add(table, f"{name} (last turn)", before["metrics"], after["metrics"], name)
    _add(table, "turns per episode", before, after, "turns_mean")
    _add(table, "tokens per response", before, after, "tokens_per_response")
    _add(table, "responses cut at the limit", before, after, "cut_share")
    _add(table, "episodes ended early", before, after, "terminated_share")
    return table


def results_table(row: dict[str, Any]) -> Table:
    """One evaluation: sampled and greedy side by side."""
    greedy = row["greedy"]
    table = Table(title=f"Held-out results after {row['env_steps']} env steps of training", title_justify="left")
    for column in ("", f"sampled ({row['episodes']} episodes)", f"greedy ({greedy['episodes']} episodes)"):
        table.add_column(column, justify="right" if column else "left")
    table.add_row("return", f"{row['return_mean']:.3f}", f"{greedy['return_mean']:.3f}")
    table.add_row("  95 % interval", _interval(row), _interval(greedy))
    for name in row["metrics"]:
        table.add_row(f"{name} (last turn)", f"{row['metrics'][name]:.3f}", f"{greedy['metrics'][name]:.3f}")
    for label, key in (
        ("turns per episode", "turns_mean"),
        ("tokens per response", "tokens_per_response"),
        ("episodes ended early", "terminated_share"),
    ):
        table.add_row(label, f"{row[key]:.3f}", f"{greedy[key]:.3f}")
    return table


def _add(table: Table, label: str, before: dict[str, Any], after: dict[str, Any], key: str) -> None:
    table.add_row(label, f"{before[key]:.3f}", f"{after[key]:.3f}", f"{after[key] - before[key]:+.3f}")


def _interval(row: dict[str, Any]) -> str:
    low, high = row["return_ci95"]
    return f"{low:.2f} to {high:.2f}"
