"""`collm compare`: methods against methods at equal env steps, over seeds."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from collm.cli.common import ConfigFile, Preset, whole_number
from collm.comparison.plan import Settings, method_names, seed_numbers, split_overrides
from collm.config.load import DEFAULT_PRESET, task_of
from collm.errors import ConfigError

_METHODS = "magrpo,collm-dc,collm-cc"
_SEEDS = "5"
_Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[METHOD:]KEY.PATH=VALUE",
        help="settings of every run, or of one method's, such as magrpo:monte_carlo.samples=4",
        show_default=False,
    ),
]


def compare(
    task: Annotated[
        str | None, typer.Argument(metavar="TASK", help="collm list tasks, or pkg.module:Class of your own environment", show_default=False)
    ] = None,
    overrides: _Overrides = None,
    methods: Annotated[
        str | None, typer.Option("--methods", "-m", metavar="NAMES", help=f"collm list methods (default: {_METHODS})", show_default=False)
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            "--seeds", "-s", metavar="NUMBER", help=f"how many, from 0, or a list such as 3,4,7 (default: {_SEEDS})", show_default=False
        ),
    ] = None,
    env_steps: Annotated[
        str | None, typer.Option("--env-steps", "-n", metavar="NUMBER", help="joint actions each run is given", show_default=False)
    ] = None,
    jobs: Annotated[
        str | None, typer.Option("--jobs", "-j", metavar="NUMBER", help="runs at once, sharing the cores (default: 1)", show_default=False)
    ] = None,
    preset: Preset = None,
    config: ConfigFile = None,
    run_dir: Annotated[
        Path | None, typer.Option("--run-dir", "-d", help="where to write (default: runs/compare-TASK-STEPS)", show_default=False)
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="DIR", help="only draw a comparison's folder again", show_default=False)
    ] = None,
) -> None:
    """Compare methods on TASK at equal env steps.

    The same command again continues: finished runs are left alone, interrupted ones resumed.
    """
    options = {
        "--methods": methods,
        "--seeds": seeds,
        "--env-steps": env_steps,
        "--jobs": jobs,
        "--preset": preset,
        "--config": config,
        "--run-dir": run_dir,
    }
    if report is not None:
        if task is not None or any(value is not None for value in options.values()):
            raise ConfigError("option --report only draws a comparison again: give it alone, as `collm compare --report DIR`")
        _redraw(report)
        return
    if task is None:
        raise ConfigError(
            "argument TASK is missing: `collm compare TASK --env-steps N` (see collm list tasks), or `collm compare --report DIR`"
        )
    task_of(task)
    budget, at_once = whole_number(env_steps, "--env-steps", 1), whole_number(jobs, "--jobs", 1)
    if budget is None:
        raise ConfigError("option --env-steps is missing: how many joint actions each run is given, such as --env-steps 1200")
    names, numbers = method_names(methods or _METHODS), seed_numbers(seeds or _SEEDS)
    shared, own = split_overrides(overrides or [])
    settings = Settings(task, budget, preset or DEFAULT_PRESET, config, shared, own)
    told = {**options, "--methods": methods or _METHODS, "--seeds": seeds or _SEEDS}
    _make(settings, names, numbers, run_dir or settings.default_folder(), at_once or 1, _command(task, told, overrides or []))


def _make(settings: Settings, methods: Sequence[str], seeds: Sequence[int], folder: Path, jobs: int, command: str) -> None:
    """Runs, then what came of it. Ends with exit code 1 where a run failed."""
    from collm.comparison.run import compare as make
    from collm.comparison.watch import ConsoleWatcher

    console = Console()
    with ConsoleWatcher(console, settings.env_steps, folder, len(methods) * len(seeds)) as watcher:
        made = make(settings, methods, seeds, folder, jobs=jobs, command=command, watcher=watcher)
    if made.finished:
        _show(folder, console)
    if made.stopped_by is not None:
        console.print(
            f"{made.stopped_by}: stopped with {made.finished} of {made.planned} runs finished; nothing is lost. Continue with\n  {command}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    if made.failed:
        told = "".join(f"\n  {run}: {error}" for run, error in made.failed.items())
        typer.echo(f"error: {len(made.failed)} of {made.planned} runs failed; the same command tries them again{told}", err=True)
        raise typer.Exit(1)


def _redraw(folder: Path) -> None:
    from collm.reports.comparison_files import draw

    draw(folder)
    _show(folder, Console())


def _show(folder: Path, console: Console) -> None:
    from collm.reports.comparison import read_comparison
    from collm.reports.comparison_page import summary_tables

    for table in summary_tables(read_comparison(folder)):
        console.print(table)
    console.print(f"picture: {folder / 'comparison.png'}\ntables: {folder / 'comparison.md'}", highlight=False, soft_wrap=True)


def _command(task: str, options: Mapping[str, object], overrides: Sequence[str]) -> str:
    """The command as a person would type it again."""
    given = [str(word) for option, value in options.items() if value is not None for word in (option, value)]
    return shlex.join(["collm", "compare", task, *given, *overrides])
