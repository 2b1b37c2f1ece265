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
    of_eval: Annotated[bool, typer.Option("--eval", help="episodes of the newest `collm eval`, not those of training")] = False,
    evaluation: Annotated[
        str | None,
        typer.Option("--evaluation", metavar="NUMBER", help="as --eval, but of this row of eval.jsonl, from 0", show_default=False),
    ] = None,
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
    if [episode is not None, best, worst].count(True) > 1:
        raise ConfigError("argument EPISODE, option --best and option --worst each name an episode: give one of them")
    log = _open_log(existing_run(run_dir), of_eval, whole_number(update, "--update", 1), whole_number(evaluation, "--evaluation", 0))
    console = Console()
    if not console.is_terminal or console.width > WIDEST:
        console = Console(width=WIDEST)
    entry = log.best() if best else log.worst() if worst else log.find(episode) if episode is not None else None
    if entry is not None:
        _show_episode(log, entry, leaf, full, export, console)
    elif export is not None:
        raise ConfigError("option --export needs an episode: name one, or add --best or --worst")
    else:
        _print(console, episode_list(log))
        typer.echo(f"\nOne of them: collm show {run_dir} ID   (or --best, --worst)")


def _open_log(run_dir: Path, of_eval: bool, update: int | None, evaluation: int | None) -> EpisodeLog:
    """The log that the options ask for, narrowed to an update or an evaluation where they name one."""
    if not of_eval and evaluation is None:
        log = EpisodeLog.open(run_dir, LOG)
        return log if update is None else log.of(update)
    if update is not None:
        raise ConfigError("option --update is of training, to which no episode of `collm eval` belongs; with --eval give --evaluation")
    log = EpisodeLog.open(run_dir, EVAL_LOG)
    return log.newest() if evaluation is None else log.of(evaluation)


def _show_episode(log: EpisodeLog, entry: Entry, leaf: str, full: bool, export: Path | None, console: Console) -> None:
    logged = log.read(entry)
    end = choose_leaf(logged.episode, leaf)
    how = f", protocol {logged.protocol}" if logged.protocol is not None else ""
    where = f"{log.path}, line {entry.line}, {log.kind} {entry.group}{how}"
    _print(console, EpisodeView(console, console.width, full=full).render(logged, end, where))
    if export is not None:
        # Late: drawing takes libraries that reading does not.
        from collm.reports.export.files import export_episode

        files = export_episode(logged.episode, end, export)
        typer.echo("\n" + "\n".join(f"wrote {file}" for file in files))


def _print(console: Console, shown: RenderableType) -> None:
    """Print without the blanks that fill lines up to the console's width."""
    with console.capture() as text:
        console.print(shown, highlight=False, crop=False)
    typer.echo("\n".join(line.rstrip() for line in text.get().splitlines()))
