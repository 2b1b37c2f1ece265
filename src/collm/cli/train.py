"""`collm train`: a new run, or the rest of an interrupted one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from collm.cli.common import ConfigFile, Method, Overrides, Preset, Seed, load_api, whole_number
from collm.config.load import DEFAULT_PRESET, resolve
from collm.config.rundir import existing_run, free_for_run
from collm.errors import ConfigError


def train(
    task: Annotated[
        str | None, typer.Argument(metavar="TASK", help="strbuild, custom, or pkg.module:Class of your own environment", show_default=False)
    ] = None,
    overrides: Overrides = None,
    method: Method = None,
    preset: Preset = None,
    config: ConfigFile = None,
    run_dir: Annotated[
        Path | None, typer.Option("--run-dir", "-d", help="where to write (default: a fresh folder in runs/)", show_default=False)
    ] = None,
    seed: Seed = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", metavar="RUN_DIR", help="continue this run, with its own settings", show_default=False)
    ] = None,
) -> None:
    """Train a team of agents on TASK, or --resume a run."""
    if resume is not None:
        if any(given is not None for given in (task, method, preset, config, run_dir, seed)):
            raise ConfigError("option --resume continues a run with its own settings: give it alone, as `collm train --resume RUN_DIR`")
        folder = existing_run(resume)
        load_api().resume(folder, console=Console())
        return
    if task is None:
        raise ConfigError("argument TASK is missing: `collm train TASK` (see collm list tasks), or `collm train --resume RUN_DIR`")
    number = whole_number(seed, "--seed", 0)
    settings = resolve(task, method=method, preset=preset or DEFAULT_PRESET, config_file=config, overrides=overrides or [], seed=number)
    if run_dir is not None:
        free_for_run(run_dir)
    load_api().train(settings, run_dir=run_dir, console=Console())
