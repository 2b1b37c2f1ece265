"""`collm list` and `collm config`: what there is, and what a run would use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from collm.cli.common import ConfigFile, Method, Overrides, Preset, Seed, Task, whole_number
from collm.config import catalog
from collm.config.describe import describe
from collm.config.load import DEFAULT_PRESET, resolve
from collm.config.nearest import nearest
from collm.errors import ConfigError

_LISTS: dict[str, Callable[[], list[catalog.Entry]]] = {
    "tasks": catalog.tasks,
    "methods": catalog.methods,
    "presets": catalog.task_presets,
    "models": catalog.models,
}


def list_(what: Annotated[str, typer.Argument(metavar="WHAT", help="tasks, methods, presets or models")]) -> None:
    """List tasks, methods, presets or built-in models."""
    if what not in _LISTS:
        raise ConfigError(f"argument WHAT: {what!r} is none of {', '.join(_LISTS)}; nearest: {nearest(what, _LISTS)}")
    entries = _LISTS[what]()
    if not entries:
        typer.echo(f"This installation has no built-in {what}.")
    width = max((len(entry.name) for entry in entries), default=0)
    for entry in entries:
        typer.echo(f"{entry.name:<{width}}  {entry.description}")


def config(
    task: Task,
    overrides: Overrides = None,
    method: Method = None,
    preset: Preset = None,
    config: ConfigFile = None,
    seed: Seed = None,
) -> None:
    """Print the settings a run on TASK would use.

    Every field comes with its meaning; the output is YAML, fit for --config.
    """
    number = whole_number(seed, "--seed", 0)
    settings = resolve(task, method=method, preset=preset or DEFAULT_PRESET, config_file=config, overrides=overrides or [], seed=number)
    typer.echo(describe(settings), nl=False)
