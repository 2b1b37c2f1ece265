"""`collm eval`: a trained team, or models under a protocol, on a test split."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from collm.cli.common import ConfigFile, Overrides, Preset, Seed, load_api, whole_number
from collm.config.load import DEFAULT_PRESET, resolve
from collm.config.rundir import free_for_run
from collm.errors import ConfigError
from collm.evaluation.protocols import find_protocol, shaped
from collm.evaluation.target import run_folder


def evaluate(
    target: Annotated[str, typer.Argument(metavar="RUN_DIR|TASK", help="folder of a run, or a task (then with --protocol)")],
    overrides: Overrides = None,
    protocol: Annotated[
        str | None,
        typer.Option("--protocol", metavar="NAME", help="raw, parallel, pipeline or discussion: prompts alone", show_default=False),
    ] = None,
    preset: Preset = None,
    config: ConfigFile = None,
    episodes: Annotated[
        str | None,
        typer.Option("--episodes", "-n", metavar="NUMBER", help="sampled episodes, spread over the test rows", show_default=False),
    ] = None,
    samples_per_row: Annotated[
        str | None, typer.Option("--samples-per-row", metavar="NUMBER", help="sampled episodes of each test row", show_default=False)
    ] = None,
    seed: Seed = None,
    run_dir: Annotated[
        Path | None, typer.Option("--run-dir", "-d", help="where to write (default: a fresh folder in runs/)", show_default=False)
    ] = None,
) -> None:
    """Evaluate on the whole test split: a run's agents, or any models under a --protocol."""
    chosen, folder = find_protocol(protocol), run_folder(target, protocol)
    number = whole_number(seed, "--seed", 0)
    how = {
        "episodes": whole_number(episodes, "--episodes", 1),
        "samples_per_row": whole_number(samples_per_row, "--samples-per-row", 1),
        "protocol": protocol,
        "console": Console(),
    }
    if folder is not None:
        given = {"--preset": preset, "--config": config, "--run-dir": run_dir, "KEY.PATH=VALUE": overrides}
        if unfit := [name for name, value in given.items() if value]:
            raise ConfigError(
                f"{unfit[0]} does not go with {folder}: a run is evaluated with its own settings and into its own folder; "
                "its agents elsewhere: `collm eval TASK --protocol parallel agents.0.model=RUN_DIR/final/agent_0 ...`"
            )
        load_api().evaluate(folder, seed=number, **how)
        return
    settings = resolve(target, preset=preset or DEFAULT_PRESET, config_file=config, overrides=overrides or [], seed=number)
    shaped(settings, chosen)
    if run_dir is not None:
        free_for_run(run_dir)
    load_api().evaluate(settings, run_dir=run_dir, **how)
