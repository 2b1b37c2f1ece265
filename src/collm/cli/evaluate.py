"""`collm eval`: a trained team on its test split."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from collm.cli.common import Seed, load_api, whole_number
from collm.config.rundir import existing_run


def evaluate(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="folder of a run")],
    episodes: Annotated[
        str | None,
        typer.Option("--episodes", "-n", metavar="NUMBER", help="sampled episodes (default: the run's own setting)", show_default=False),
    ] = None,
    seed: Seed = None,
) -> None:
    """Evaluate a run's agents on the whole test split."""
    folder = existing_run(run_dir)
    count, number = whole_number(episodes, "--episodes", 1), whole_number(seed, "--seed", 0)
    load_api().evaluate(folder, episodes=count, seed=number, console=Console())
