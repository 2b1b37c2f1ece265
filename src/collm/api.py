"""The same as the command line, in Python.

import collm
run = collm.train("strbuild", overrides=["training.updates=20"])
print(run.evaluations[0]["return_mean"], "->", run.evaluations[-1]["return_mean"])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from collm.api_evaluate import evaluate
from collm.config.load import resolve
from collm.config.rundir import new_run_dir
from collm.config.schema import Config
from collm.envs.base import TextEnv
from collm.errors import RunFolderError
from collm.evaluation.target import holds_only_evaluation
from collm.models.loading import LoadedModel
from collm.reports.curve import learning_curve
from collm.reports.read import rows as read_rows
from collm.reports.summary import before_after
from collm.training.display import ConsoleDisplay, Display
from collm.training.trainer import Rows, Trainer

__all__ = ["Run", "evaluate", "resume", "train"]


@dataclass(frozen=True, slots=True)
class Run:
    """A run folder that has been trained in. `finished` is False where a signal stopped it; resume continues it."""

    path: Path
    finished: bool

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """Rows of metrics.jsonl, one per update."""
        return read_rows(self.path, "metrics.jsonl")

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        """Rows of eval.jsonl; the first is the untrained team, the last the trained one."""
        return read_rows(self.path, "eval.jsonl")


def train(
    task: str | Config,
    method: str | None = None,
    *,
    preset: str = "tiny",
    config_file: Path | None = None,
    overrides: Sequence[str] = (),
    seed: int | None = None,
    run_dir: Path | str | None = None,
    models: Mapping[str, LoadedModel] | None = None,
    env: Callable[[], TextEnv] | None = None,
    rows: Rows | None = None,
    console: Console | None = None,
) -> Run:
    """Train a team and write a run folder (a new one under runs/ unless `run_dir` is given).

    `task` is a task name, an environment's import path "pkg.module:Class", or a whole Config (then `method`, `preset`,
    `config_file`, `overrides` and `seed` must be left alone). `overrides` are "key.path=value" strings as on the
    command line. `models`, `env` and `rows` are live objects: see `collm.Trainer`. With a `console` progress is shown.
    Raises CollmError (ConfigError, ModelError, DataError, ...) with a message that names the mend.
    """
    config = (
        task
        if isinstance(task, Config)
        else resolve(task, method=method, preset=preset, config_file=config_file, overrides=overrides, seed=seed)
    )
    with new_run_dir(config, Path(run_dir) if run_dir is not None else None) as folder:
        trainer = Trainer(config, folder, models=models, env=env, rows=rows, display=_display(console))
        return _finish(trainer, folder, console)


def resume(
    run_dir: Path | str,
    *,
    models: Mapping[str, LoadedModel] | None = None,
    env: Callable[[], TextEnv] | None = None,
    rows: Rows | None = None,
    console: Console | None = None,
) -> Run:
    """Continue a run from its newest checkpoint, to the same numbers as if it had never been interrupted.

    A run that was started with live objects needs them again.
    """
    folder = Path(run_dir)
    if holds_only_evaluation(folder):
        raise RunFolderError(f"{folder} holds an evaluation of `collm eval`, no run that could be continued")
    return _finish(Trainer.resume(folder, models=models, env=env, rows=rows, display=_display(console)), folder, console)


def _finish(trainer: Trainer, folder: Path, console: Console | None) -> Run:
    title = f"{trainer.config.method} on {trainer.config.task.name}"
    finished = trainer.run()
    if finished:
        picture = learning_curve({trainer.config.method: folder}, folder / "plots" / "learning_curve.png", title)
        if console is not None:
            console.print(before_after(folder))
            console.print(f"agents: {folder / 'final'}\nlearning curve: {picture}", highlight=False)
    return Run(folder, finished)


def _display(console: Console | None) -> Display:
    return Display() if console is None else ConsoleDisplay(console)
