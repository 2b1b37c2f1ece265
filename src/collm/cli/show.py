"""`collm show`: a run's episodes, one of them, and pictures and files of what was built in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, RenderableType

from collm.cli.common import whole_number
from collm.config.rundir import existing_run
from collm.errors import ConfigError
from collm.reports.episode_list import episode_list
from collm.reports.episode_log import EVAL_LOG, LOG, Entry, EpisodeLog
from collm.reports.episode_path import choose_leaf
from collm.reports.episode_view import EpisodeView
from collm.types import Episode

WIDEST = 100
"""Columns; longer lines are hard to read, and a pipe has no width of its own."""


def show(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="folder of a run")],
    episode: Annotated[
        str | None, typer.Argument(metavar="EPISODE", help="its id, leading zeros or not (default: list them)", show_default=False)
    ] = None,
    best: Annotated[bool, typer.Option("--best", help="the episode with the highest return")] = False,
    worst: Annotated[bool, typer.Option("--worst", help="the episode with the lowest return")] = False,
    update: Annotated[
        str | None, typer.Option("--update", metavar="NUMBER", help="only episodes of this update, as in metrics.jsonl", show_default=False)
    ] = None,
    evaluation: Annotated[bool, typer.Option("--eval", help="episodes that `collm eval` played, not those of training")] = False,
    leaf: Annotated[
        str, typer.Option("--leaf", metavar="LEAF", help="which path of a rollout tree: best, worst, greedy or a joint action's number")
    ] = "best",
    full: Annotated[bool, typer.Option("--full", help="leave nothing out of long texts")] = False,
    export: Annotated[
        Path | None,
        typer.Option("--export", metavar="DIR", help="write its builds (.png, .mcfunction, .schem) and programs (.py)", show_default=False),
    ] = None,
) -> None:
    """Print an episode of a run, or list the newest, best and worst.

    The return is the undiscounted sum of rewards.
    """
    number = whole_number(update, "--update", 1)
    if [episode is not None, best, worst].count(True) > 1:
        raise ConfigError("argument EPISODE, option --best and option --worst each name an episode: give one of them")
    log = EpisodeLog.open(existing_run(run_dir), EVAL_LOG if evaluation else LOG)
    if number is not None:
        log = log.of_update(number)
    console = Console()
    if not console.is_terminal or console.width > WIDEST:
        console = Console(width=WIDEST)
    entry = log.best() if best else log.worst() if worst else log.find(episode) if episode is not None else None
    if entry is None:
        if export is not None:
            raise ConfigError("option --export needs an episode: name one, or add --best or --worst")
        _print(console, episode_list(log))
        typer.echo(f"\nOne of them: collm show {run_dir} ID   (or --best, --worst)")
        return
    _show_episode(log, entry, log.read(entry), leaf, full, export, console)


def _show_episode(log: EpisodeLog, entry: Entry, played: Episode, leaf: str, full: bool, export: Path | None, console: Console) -> None:
    end = choose_leaf(played, leaf)
    where = f"{log.path}, line {entry.line}, update {entry.update}"
    _print(console, EpisodeView(console, console.width, full=full).render(played, end, where))
    if export is not None:
        # Late: drawing takes libraries that reading does not.
        from collm.reports.export.files import export_episode

        files = export_episode(played, end, export)
        typer.echo("\n" + "\n".join(f"wrote {file}" for file in files))


def _print(console: Console, shown: RenderableType) -> None:
    """Print without the blanks that fill lines up to the console's width."""
    with console.capture() as text:
        console.print(shown, highlight=False, crop=False)
    typer.echo("\n".join(line.rstrip() for line in text.get().splitlines()))
