"""`collm eval` in Python: trained runs, and models that are only prompted.

import collm
row = collm.evaluate("strbuild", "discussion", overrides=["agents.0.model=tiny-a", "agents.1.model=tiny-b"])
print(row["metrics"]["iou"], row["ci95"]["metrics"]["iou"])
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from collm.config.load import DEFAULT_PRESET, dump, load_config_file, resolve
from collm.config.rundir import new_run_dir
from collm.config.schema import Config
from collm.envs.base import TextEnv
from collm.envs.data import load_rows
from collm.envs.registry import make_env
from collm.errors import ConfigError, RunFolderError
from collm.evaluation.evaluator import samples_per_row as spread
from collm.evaluation.protocols import Protocol, find_protocol, shaped
from collm.evaluation.report import evaluate_protocol
from collm.evaluation.target import EPISODES, EVALUATIONS, check_run, run_folder
from collm.models.loading import LoadedModel
from collm.models.team import build_team
from collm.models.workers import host_workers
from collm.reports.read import rows as read_rows
from collm.reports.summary import details_table, results_table
from collm.training.run_folder import check_live_marks, write_atomic
from collm.training.trainer import Rows
from collm.types import TaskRow


def evaluate(
    target: Path | str | Config,
    protocol: str | None = None,
    *,
    preset: str = DEFAULT_PRESET,
    config_file: Path | None = None,
    overrides: Sequence[str] = (),
    episodes: int | None = None,
    samples_per_row: int | None = None,
    seed: int | None = None,
    run_dir: Path | str | None = None,
    models: Mapping[str, LoadedModel] | None = None,
    env: Callable[[], TextEnv] | None = None,
    rows: Rows | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Evaluate a team on the whole test split and return its row of eval.jsonl (docs/evaluation.md).

    `target` is a run folder: its final agents are evaluated as they were trained (or under `protocol`), and the row is
    appended to the run's eval.jsonl. Or it is a task name, an import path "pkg.module:Class" or a whole Config, with a
    `protocol` (raw, parallel, pipeline, discussion): the configured models are prompted, and the row goes into `run_dir` or
    a fresh folder under runs/. `preset`, `config_file`, `overrides`, `run_dir` and `models` (live ones, by agent name) are for
    the second kind; a Config says the first three itself.

    `episodes` are spread evenly over the test rows (default: evaluation.sampled_episodes), at least one each;
    `samples_per_row` says how many each row gets. `seed` defaults to the configuration's. `env` and `rows` are live objects
    as for `collm.train`; a run that was trained with them needs them again.

    Raises CollmError (RunFolderError where a run has no final agents, ConfigError, DataError, ModelError, ...) with a
    message that names the mend.
    """
    began = time.perf_counter()
    chosen = find_protocol(protocol)
    if episodes is not None and samples_per_row is not None:
        raise ConfigError("options --episodes and --samples-per-row say the same thing in two ways: give one")
    wanted = _Wanted(chosen, episodes, samples_per_row, seed, env, rows, console)
    of_task = (preset != DEFAULT_PRESET, config_file is not None, bool(overrides), run_dir is not None, models is not None)
    folder = _run_of(target, protocol)
    if folder is not None:
        if any(of_task):
            raise ConfigError(
                f"{folder} is a run and is evaluated with its own settings; presets, configuration files, settings, models and "
                "folders to write to are for `collm eval TASK --protocol NAME` (agents.0.model=RUN/final/agent_0 takes a trained agent)"
            )
        return _evaluate_run(folder, wanted, began)
    if isinstance(target, Config):
        if any(of_task[:3]):
            raise ConfigError("a whole Config says everything itself: leave out preset, config_file and overrides")
        config = target if seed is None else target.model_copy(update={"seed": seed})
    else:
        config = resolve(str(target), preset=preset, config_file=config_file, overrides=overrides, seed=seed)
    if protocol is None:
        raise ConfigError("models that were not trained are evaluated under a protocol: give raw, parallel, pipeline or discussion")
    with new_run_dir(config, Path(run_dir) if run_dir is not None else None, protocol=protocol) as made:
        return _evaluate_models(config, made, wanted, models or {}, began)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """How to evaluate, whatever it is that is evaluated."""

    protocol: Protocol
    episodes: int | None
    samples_per_row: int | None
    seed: int | None
    env: Callable[[], TextEnv] | None
    rows: Rows | None
    console: Console | None


def _run_of(target: Path | str | Config, protocol: str | None) -> Path | None:
    if isinstance(target, Config):
        return None
    return check_run(target) if isinstance(target, Path) else run_folder(target, protocol)


def _evaluate_run(folder: Path, wanted: _Wanted, began: float) -> dict[str, Any]:
    """A run's final agents, with the sampling, the task and the history they were trained with."""
    if not (folder / "final").is_dir():
        raise RunFolderError(f"{folder} has no final agents yet; finish it with `collm train --resume {folder}`")
    trained = load_config_file(folder / "config.yaml")
    check_live_marks(folder, {"env": wanted.env, "rows": wanted.rows})
    config = shaped(trained, wanted.protocol)
    names = _agent_names(config, wanted)
    if missing := [name for name in names if not (folder / "final" / name).is_dir()]:
        has = ", ".join(sorted(p.name for p in (folder / "final").iterdir()))
        raise RunFolderError(f"{folder / 'final'} has no {missing[0]}, an agent of the environment; it has {has or 'nothing'}")
    final = [{"model": str(folder / "final" / name), "tuning": "full", "dtype": "float32"} for name in names]
    agents = [agent.model_copy(update=update) for agent, update in zip(config.agents, final, strict=True)]
    last = read_rows(folder, "metrics.jsonl")[-1]
    head = {"update": last["update"], "env_steps": last["env_steps"], "method": trained.method}
    row, played = _evaluated(config.model_copy(update={"agents": agents}), names, head, folder, wanted, {}, began)
    _write(folder, row, played)
    return row


def _evaluate_models(config: Config, folder: Path, wanted: _Wanted, models: Mapping[str, LoadedModel], began: float) -> dict[str, Any]:
    """Models as they are configured; nothing has been trained."""
    config = shaped(config, wanted.protocol)
    names = _agent_names(config, wanted)
    row, played = _evaluated(config, names, {"update": 0, "env_steps": 0, "method": None}, folder, wanted, models, began)
    _write(folder, row, played)
    # Last: only a folder that is complete is an evaluation's.
    write_atomic(folder / "config.yaml", dump(config))
    return row


def _agent_names(config: Config, wanted: _Wanted) -> list[str]:
    names = list(_maker(config, wanted)().possible_agents)
    if len(names) != len(config.agents):
        raise ConfigError(
            f"the environment has {len(names)} agents ({', '.join(names)}) and {wanted.protocol.name} plays {len(config.agents)}; "
            "give an environment for as many"
        )
    return names


def _maker(config: Config, wanted: _Wanted) -> Callable[[], TextEnv]:
    return wanted.env or (lambda: make_env(config.task, len(config.agents), config.history))


def _test_rows(config: Config, wanted: _Wanted) -> list[TaskRow | None]:
    if wanted.rows is not None:
        return wanted.rows[1]
    return load_rows(config.task)[1] if wanted.env is None else [None]


def _evaluated(
    config: Config,
    names: list[str],
    head: Mapping[str, Any],
    folder: Path,
    wanted: _Wanted,
    models: Mapping[str, LoadedModel],
    began: float,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The row of eval.jsonl and the episodes, once they are played; shown where there is a console."""
    test_rows = _test_rows(config, wanted)
    per_row = wanted.samples_per_row or spread(wanted.episodes or config.evaluation.sampled_episodes, len(test_rows))
    seed = config.seed if wanted.seed is None else wanted.seed
    label = {**head, "task": config.task.name, "protocol": wanted.protocol.name, "models": [a.model for a in config.agents], "seed": seed}
    team = build_team(_only_acting(config), names, {}, 0, models)
    watch = _Watch(wanted.console, f"{label['protocol']} on {label['task']}, {len(test_rows)} rows x {per_row} samples, into {folder}")
    with host_workers(len(team.hosts)) as executor, watch:
        results, played = evaluate_protocol(
            config, wanted.protocol, test_rows, _maker(config, wanted), team.policies, executor, watch.turn, per_row, seed
        )
    row = {**label, **results, "seconds_total": time.perf_counter() - began}
    if wanted.console is not None:
        wanted.console.print(results_table([row]), details_table(row))
    return row, played


def _only_acting(config: Config) -> Config:
    """Without what only training needs: a copy of the weights for a KL term, value heads, checkpointed activations."""
    algorithm = config.algorithm.model_copy(update={"kl_coef": 0.0})
    critic = config.critic.model_copy(update={"shared_backbone": False})
    training = config.training.model_copy(update={"gradient_checkpointing": False})
    return config.model_copy(update={"algorithm": algorithm, "critic": critic, "training": training})


class _Watch:
    """A line on a terminal that says what is being done; nothing elsewhere."""

    def __init__(self, console: Console | None, title: str) -> None:
        self._title, self._turns = title, 0
        self._status = console.status(title) if console is not None else None
        if console is not None:
            console.print(title, soft_wrap=True, highlight=False)

    def __enter__(self) -> None:
        if self._status is not None:
            self._status.start()

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def turn(self) -> None:
        """Before every turn of a batch of episodes."""
        self._turns += 1
        if self._status is not None:
            self._status.update(f"turn {self._turns} of all batches")


def _write(folder: Path, row: Mapping[str, Any], episodes: Iterable[Mapping[str, Any]]) -> None:
    """Append the row and its episodes, which say by `evaluation` to which row of eval.jsonl (from 0) they belong."""
    log = folder / EVALUATIONS
    number = len(log.read_text(encoding="utf-8").splitlines()) if log.is_file() else 0
    _append(folder / EPISODES, [{"evaluation": number, "protocol": row["protocol"], **episode} for episode in episodes])
    _append(log, [row])


def _append(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows))
    except OSError as error:
        raise RunFolderError(f"could not write {path}: {error}; free some space (or mend the permissions) and evaluate again") from error
