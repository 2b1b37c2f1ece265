"""Tables of held-out results: a run before and after, and evaluations like the paper's Table 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from collm.errors import RunFolderError
from collm.reports.read import rows

PERCENTAGES = {
    "score": "score\n%",
    "pass_rate": "pass\nrate %",
    "adjacency": "adjacency\n%",
    "iou": "IoU\n%",
    "hp": "HP\n%",
    "match": "match\n%",
}
"""The environments' metrics that stand in the paper's Table 1, shares of 1, in its order."""


def before_after(run_dir: Path) -> Table:
    """Held-out results of the run's own first and last evaluation, side by side. Raises RunFolderError where there is none."""
    # `collm eval` may have appended its own rows, of other seeds and protocols.
    evaluations = [row for row in rows(run_dir, "eval.jsonl") if "protocol" not in row]
    if not evaluations:
        raise RunFolderError(f"{run_dir / 'eval.jsonl'} holds no evaluation made by the run itself")
    before, after = evaluations[0], evaluations[-1]
    table = Table(
        title=f"Held-out results ({after['episodes']} sampled episodes, {after['env_steps']} env steps of training)", title_justify="left"
    )
    table.add_column("")
    table.add_column("before", justify="right")
    table.add_column("after", justify="right")
    table.add_column("change", justify="right")
    _add(table, "return, sampled", before, after, "return_mean")
    table.add_row("  95 % interval", _interval(before["return_ci95"], 2), _interval(after["return_ci95"], 2), "")
    _add(table, "return, greedy", before["greedy"], after["greedy"], "return_mean")
    for name in before["metrics"]:
        _add(table, f"{name} (last turn)", before["metrics"], after["metrics"], name)
    _add(table, "turns per episode", before, after, "turns_mean")
    _add(table, "tokens per response", before, after, "tokens_per_response")
    _add(table, "responses cut at the limit", before, after, "cut_share")
    _add(table, "episodes ended early", before, after, "terminated_share")
    return table


def results_table(evaluations: Sequence[Mapping[str, Any]]) -> Table:
    """Rows of `collm eval` on one task, each as a line of Table 1: time, cost and performance, intervals below."""
    columns: dict[str, None] = {}
    for row in evaluations:
        columns |= dict.fromkeys(_percentages(row))
    one = evaluations[0]
    table = Table(
        title=f"{one['task']}: {one['rows']} test rows, {one['samples_per_row']} samples each",
        caption="time: seconds of a joint turn, every call alone\n"
        "cost: generated tokens per agent and turn\n"
        "%: at the last turn of an episode\n"
        "below: 95 % bootstrap interval over rows and samples",
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("", no_wrap=True)
    for column in ("time\ns", "cost\ntokens", *columns):
        table.add_column(column, justify="right", no_wrap=True)
    for row in evaluations:
        seconds, found = row["seconds_per_joint_turn"], _percentages(row)
        table.add_row(
            label(row),
            "not timed" if seconds is None else f"{seconds:.2f}\n[dim]{row['timed_turns']} timed[/]",
            _with_interval(row["cost_tokens"], row["ci95"]["cost_tokens"], 1),
            *(_with_interval(*found[column], 100) if column in found else "" for column in columns),
        )
    return table


def details_table(row: Mapping[str, Any]) -> Table:
    """One row of `collm eval`: return and every metric of the environment, sampled and greedy."""
    greedy = row["greedy"]
    table = Table(title="Every metric (the environment's at the last turn)", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in ("", f"sampled ({row['episodes']} episodes)", "95 % interval", f"greedy ({greedy['episodes']} episodes)"):
        table.add_column(column, justify="right" if column else "left")
    table.add_row("return", f"{row['return_mean']:.3f}", _interval(row["ci95"]["return"], 3), f"{greedy['return_mean']:.3f}")
    for name, mean in row["metrics"].items():
        of_greedy = f"{greedy['metrics'][name]:.3f}" if name in greedy["metrics"] else ""
        table.add_row(name, f"{mean:.3f}", _interval(row["ci95"]["metrics"][name], 3), of_greedy)
    for name, key, interval in (("turns per episode", "turns_mean", "turns"), ("episodes ended early", "terminated_share", "terminated")):
        table.add_row(name, f"{row[key]:.3f}", _interval(row["ci95"][interval], 3), f"{greedy[key]:.3f}")
    for name, key in (("tokens per judged response", "tokens_per_response"), ("judged responses cut at the limit", "cut_share")):
        table.add_row(name, f"{row[key]:.3f}", "", f"{greedy[key]:.3f}")
    table.add_row("prompt tokens per agent and turn", f"{row['prompt_tokens']:.1f}", "", "")
    return table


def label(row: Mapping[str, Any]) -> str:
    """What a row of `collm eval` is an evaluation of: the method that trained the team, or the protocol that prompted it."""
    if row["method"] is None:
        return row["protocol"]
    return row["method"] if row["protocol"] == "decentralized" else f"{row['method']}, {row['protocol']}"


def _percentages(row: Mapping[str, Any]) -> dict[str, tuple[float, Sequence[float]]]:
    """Mean and interval of the columns of Table 1 that a row has."""
    found = {title: (row["metrics"][name], row["ci95"]["metrics"][name]) for name, title in PERCENTAGES.items() if name in row["metrics"]}
    if "pass_at_k" in row:
        found |= {f"pass@{k}\n%": (mean, row["pass_at_k_ci95"][k]) for k, mean in row["pass_at_k"].items()}
    return found


def _with_interval(mean: float, interval: Sequence[float], scale: int) -> str:
    low, high = interval
    return f"{scale * mean:.1f}\n[dim]{scale * low:.1f}–{scale * high:.1f}[/]"


def _interval(interval: Sequence[float], digits: int) -> str:
    low, high = interval
    return f"{low:.{digits}f} to {high:.{digits}f}"


def _add(table: Table, label: str, before: dict[str, Any], after: dict[str, Any], key: str) -> None:
    table.add_row(label, f"{before[key]:.3f}", f"{after[key]:.3f}", f"{after[key] - before[key]:+.3f}")
