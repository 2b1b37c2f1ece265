"""What a person watching a run sees: on a terminal a live line, elsewhere one line per update."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from collm.config.schema import Config


class Display:
    """Shows nothing; the base of displays, and what tests and library use get by default."""

    @contextlib.contextmanager
    def running(self, config: Config, run_dir: Path, done: Mapping[str, int], first_return: float | None) -> Iterator[None]:
        """Around the training loop; `done` counts the `update` and `env_steps` of earlier sittings, whose first had `first_return`."""
        yield

    def update(self, row: Mapping[str, Any]) -> None:
        """After each update, with its row of metrics.jsonl."""

    def evaluation(self, row: Mapping[str, Any]) -> None:
        """After each evaluation, with its row of eval.jsonl."""

    def stopped(self, signal_name: str, run_dir: Path, done: int) -> None:
        """After a requested stop, once the checkpoint is written."""


class ConsoleDisplay(Display):
    """Progress on a console: return now and at start, env steps/s, tokens/s, time left."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None
        self._first_return: float | None = None
        self._seconds = 0.0
        self._counted = "update"
        self._total = 0
        self._begun_at = 0

    @contextlib.contextmanager
    def running(self, config: Config, run_dir: Path, done: Mapping[str, int], first_return: float | None) -> Iterator[None]:
        models = ", ".join(a.model for a in config.agents)
        self._console.print(
            f"[bold]{config.method}[/] on [bold]{config.task.name}[/], agents {models}, seed {config.seed}, in {run_dir}", soft_wrap=True
        )
        if done["update"]:
            self._console.print(f"resuming after update {done['update']}")
        self._first_return = first_return
        # What ends the run is what is counted.
        budget = config.training.env_steps
        self._counted, self._total = ("update", config.training.updates) if budget is None else ("env_steps", budget)
        self._begun_at = done[self._counted]
        if not self._console.is_terminal:
            yield
            return
        columns = (
            TextColumn(self._counted.replace("_", " ")),
            MofNCompleteColumn(),
            BarColumn(bar_width=20),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._console) as progress:
            self._task = progress.add_task("evaluating the untrained team", total=self._total, completed=self._begun_at)
            self._progress = progress
            try:
                yield
            finally:
                self._progress = None

    def update(self, row: Mapping[str, Any]) -> None:
        if self._first_return is None:
            self._first_return = row["return_mean"]
        self._seconds += row["seconds_total"]
        text = (
            f"return {row['return_mean']:.2f} (at start {self._first_return:.2f})  {row['env_steps_per_second']:.1f} env steps/s  "
            f"{row['tokens_per_second']:.0f} tokens/s  {self._left(row[self._counted])} left"
        )
        if self._progress is not None:
            self._progress.update(self._task, completed=row[self._counted], description=text)
        else:
            done = f"update {row['update']}" if self._counted == "update" else f"update {row['update']}, env steps {row['env_steps']}"
            self._console.print(f"{done}/{self._total}  {text}", highlight=False, soft_wrap=True)

    def evaluation(self, row: Mapping[str, Any]) -> None:
        low, high = row["return_ci95"]
        self._console.print(
            f"held-out return after update {row['update']}: [bold]{row['return_mean']:.2f}[/] (95 % interval {low:.2f} to {high:.2f}, "
            f"{row['episodes']} episodes), greedy {row['greedy']['return_mean']:.2f}",
            highlight=False,
            soft_wrap=True,
        )

    def stopped(self, signal_name: str, run_dir: Path, done: int) -> None:
        self._console.print(
            f"{signal_name}: stopped after update {done}; the checkpoint is written. Continue with\n  collm train --resume {run_dir}"
        )

    def _left(self, done: int) -> str:
        """Time for the rest at the mean pace of this sitting; evaluations come on top."""
        minutes, seconds = divmod(round(self._seconds / (done - self._begun_at) * max(0, self._total - done)), 60)
        return f"{minutes}:{seconds:02d}"
