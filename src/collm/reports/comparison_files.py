"""What a comparison writes beside its runs: comparison.json, comparison.md and comparison.png."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from collm.errors import RunFolderError
from collm.reports.comparison import Comparison, RunFigures, Spread, read_comparison
from collm.reports.comparison_page import page
from collm.reports.comparison_plot import comparison_plot

_ORIGIN = ("command", "machine")
_FIGURES = ("before", "final", "area", "env_steps", "seconds")


def remember(folder: Path, command: str | None, machine: Mapping[str, Any]) -> None:
    """Keep how the newest runs were made, for this drawing and later ones; what is not told keeps its older value."""
    told = {"command": command, "machine": dict(machine)}
    kept = {**_read(folder), **{key: value for key, value in told.items() if value}}
    _write(folder / "comparison.json", json.dumps(kept, indent=1) + "\n")


def draw(folder: Path) -> Comparison:
    """Write the figures, the page and the picture of the finished runs in `folder`.

    Raises RunFolderError where no run is finished or the runs do not compare.
    """
    comparison = read_comparison(folder)
    origin = {key: value for key, value in _read(folder).items() if key in _ORIGIN}
    _write(folder / "comparison.json", json.dumps({**origin, **figures(comparison)}, indent=1) + "\n")
    _write(folder / "comparison.md", page(comparison, origin))
    comparison_plot(comparison, folder / "comparison.png")
    return comparison


def figures(comparison: Comparison) -> dict[str, Any]:
    """A comparison as plain data; every interval is a 95 % percentile bootstrap interval."""
    middles, curves = comparison.curves()
    return {
        "task": comparison.task,
        "env_steps_budget": comparison.env_steps,
        "methods": {
            method: {
                "seeds": [run.seed for run in runs],
                **{name: _spread(comparison.spread(method, name), len(runs)) for name in _FIGURES},
            }
            for method, runs in comparison.runs.items()
        },
        "final_return_differences": comparison.differences(),
        "runs": [_run(run) for runs in comparison.runs.values() for run in runs],
        "unfinished": comparison.unfinished,
        "training_curve": {
            "env_steps": middles.tolist(),
            "methods": {method: dict(zip(("mean", "low", "high"), curve.tolist(), strict=True)) for method, curve in curves.items()},
        },
    }


def _run(run: RunFigures) -> dict[str, Any]:
    held_out = {
        when: {"return_mean": row["return_mean"], "return_ci95": row["return_ci95"], "greedy_return_mean": row["greedy"]["return_mean"]}
        for when, row in (("before", run.before), ("final", run.after))
    }
    return {
        "method": run.method,
        "seed": run.seed,
        "folder": run.folder,
        "updates": run.updates,
        "env_steps": run.env_steps,
        **held_out,
        "area": run.area,
        "seconds": run.seconds,
    }


def _spread(spread: Spread, seeds: int) -> dict[str, Any]:
    mean, interval = spread
    return {"mean": mean, "ci95": list(interval) if seeds > 1 else None}


def _read(folder: Path) -> dict[str, Any]:
    file = folder / "comparison.json"
    if not file.is_file():
        return {}
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise RunFolderError(f"{file} is not JSON ({error}); remove it, the runs' own folders hold everything but the command") from error


def _write(file: Path, text: str) -> None:
    """Write a text file whole: a reader sees the old or the new. Raises RunFolderError where the disk refuses."""
    temporary = file.with_name(f".{file.name}.writing")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(file)
    except OSError as error:
        raise RunFolderError(f"{file} cannot be written: {error.strerror}") from error
