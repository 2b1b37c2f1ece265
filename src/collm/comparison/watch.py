"""What a person watching a comparison sees: on a terminal live bars, elsewhere a line as each run begins and ends."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from collm.comparison.plan import PlannedRun
from collm.comparison.pool import Watcher

_TAIL_BYTES = 65_536


class ConsoleWatcher(Watcher):
    """Progress of a comparison on a console, by env steps. Use it as a context manager around the runs."""

    def __init__(self, console: Console, env_steps: int, folder: Path, planned: int) -> None:
        self._console, self._budget, self._folder, self._planned = console, env_steps, folder, planned
        self._bars: dict[Path, TaskID] = {}
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.completed:.0f}/{task.total:.0f} env steps"),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
        )
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def planned(self, missing: int) -> None:
        done = self._planned - missing
        already = f", {done} finished before" if done else ""
        self._say(f"{self._planned} runs of {self._budget} env steps each in {self._folder}{already}")

    def begun(self, run: PlannedRun) -> None:
        self._say(f"{run.folder.name}: {'going on' if (run.folder / 'config.yaml').is_file() else 'begun'}")
        self._bars[run.folder] = self._progress.add_task(run.folder.name, total=self._budget, text="")

    def going(self, runs: Sequence[PlannedRun]) -> None:
        if not self._console.is_terminal:
            return
        for run in runs:
            row = last_row(run.folder / "metrics.jsonl")
            if row is not None:
                text = f"return {row['return_mean']:.2f}"
                self._progress.update(self._bars[run.folder], completed=min(row["env_steps"], self._budget), text=text)

    def ended(self, run: PlannedRun, error: str | None) -> None:
        self._progress.remove_task(self._bars.pop(run.folder))
        row = last_row(run.folder / "eval.jsonl")
        result = f", held-out return {row['return_mean']:.2f}" if row is not None else ""
        self._say(f"{run.folder.name}: finished{result}" if error is None else f"{run.folder.name}: FAILED: {error}")

    def stopping(self, signal_name: str) -> None:
        self._say(f"{signal_name}: the runs that are being made write their checkpoints and stop (Ctrl-C once more kills them)")

    def _say(self, text: str) -> None:
        self._progress.console.print(text, highlight=False, markup=False, soft_wrap=True)


def last_row(log: Path) -> dict[str, Any] | None:
    """The last whole row of a JSON-lines file that another process may be writing; None where there is none yet."""
    if not log.is_file():
        return None
    with log.open("rb") as file:
        file.seek(-min(_TAIL_BYTES, log.stat().st_size), os.SEEK_END)
        lines = file.read().split(b"\n")[:-1]
    return json.loads(lines[-1]) if lines and lines[-1].startswith(b"{") else None
