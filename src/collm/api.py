"""The same as the command line, in Python.

import collm
run = collm.train("strbuild", overrides=["training.updates=20"])
print(run.evaluations[0]["return_mean"], "->", run.evaluations[-1]["return_mean"])
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from collm.config.load import load_config_file, resolve
from collm.config.rundir import new_run_dir
from collm.config.schema import Config
from collm.envs.base import TextEnv
from collm.envs.data import load_rows
from collm.envs.registry import make_env
from collm.errors import RunFolderError
from collm.evaluation.evaluator import evaluate as evaluate_team
from collm.models.loading import LoadedModel
from collm.models.team import build_team
from collm.reports.curve import learning_curve
from collm.reports.read import rows as read_rows
from collm.reports.summary import before_after, results_table
from collm.training.display import ConsoleDisplay, Display
from collm.training.run_folder import check_live_marks
from collm.training.trainer import Rows, Trainer
from collm.types import TaskRow


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
    return _finish(Trainer.resume(folder, models=models, env=env, rows=rows, display=_display(console)), folder, console)


def evaluate(
    run_dir: Path | str,
    *,
    episodes: int | None = None,
    seed: int | None = None,
    env: Callable[[], TextEnv] | None = None,
    rows: Rows | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Evaluate the final agents of a run on its whole test split and append the row to eval.jsonl.

    `episodes` and `seed` default to the run's own. A run that was started with a live `env` or `rows` needs them again.
    Raises RunFolderError where the run has no final agents yet.
    """
    folder = Path(run_dir)
    if not (folder / "config.yaml").is_file():
        raise RunFolderError(f"{folder} is not a run folder: it has no config.yaml")
    if not (folder / "final").is_dir():
        raise RunFolderError(f"{folder} has no final agents yet; finish it with `collm train --resume {folder}`")
    trained = load_config_file(folder / "config.yaml")
    check_live_marks(folder, {"env": env, "rows": rows})
    maker = env or (lambda: make_env(trained.task, len(trained.agents), trained.history))
    test_rows = rows[1] if rows is not None else load_rows(trained.task)[1] if env is None else [None]
    row = _evaluate_final(folder, trained, maker, test_rows, episodes, seed)
    with (folder / "eval.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps(row) + "\n")
    if console is not None:
        console.print(results_table(row))
    return row


def _evaluate_final(
    folder: Path,
    trained: Config,
    maker: Callable[[], TextEnv],
    test_rows: Sequence[TaskRow | None],
    episodes: int | None,
    seed: int | None,
) -> dict[str, Any]:
    names = list(maker().possible_agents)
    final = [{"model": str(folder / "final" / name), "tuning": "full", "dtype": "float32"} for name in names]
    agents = [agent.model_copy(update=update) for agent, update in zip(trained.agents, final, strict=True)]
    # Nothing is trained here: no copy of the weights for a KL term, no value heads.
    update = {"agents": agents, "algorithm": trained.algorithm.model_copy(update={"kl_coef": 0.0})}
    config = trained.model_copy(update={**update, "critic": trained.critic.model_copy(update={"shared_backbone": False})})
    team = build_team(config, names, {}, 0, {})
    count = episodes or config.evaluation.sampled_episodes
    chosen = config.seed if seed is None else seed
    with ThreadPoolExecutor(len(team.hosts)) as executor:
        sampled, greedy, _ = evaluate_team(config, test_rows, maker, team.policies, executor, lambda: None, count, chosen)
    last = read_rows(folder, "metrics.jsonl")[-1]
    return {"update": last["update"], "env_steps": last["env_steps"], **sampled.as_dict(), "greedy": greedy.as_dict()}


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
