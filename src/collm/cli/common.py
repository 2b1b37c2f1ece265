"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from collm.errors import ConfigError

Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY.PATH=VALUE", help="settings, such as training.updates=10 or agents.1.model=tiny-b", show_default=False),
]
Task = Annotated[str, typer.Argument(metavar="TASK", help="collm list tasks, or pkg.module:Class of your own environment")]
Method = Annotated[str | None, typer.Option("--method", "-m", help="the algorithm: collm list methods", show_default=False)]
Preset = Annotated[str | None, typer.Option("--preset", "-p", help="tiny (the default) or paper: collm list presets", show_default=False)]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="YAML file of settings, laid over the presets (a list replaces theirs)", show_default=False),
]
Seed = Annotated[
    str | None, typer.Option("--seed", "-s", metavar="NUMBER", help="seeds everything (default: the configuration's)", show_default=False)
]


def whole_number(text: str | None, option: str, least: int) -> int | None:
    """The number given for an option, if any. Raises ConfigError where it is no whole number or below `least`.

    Numbers are read here and not by typer, whose own messages speak of parsing and inputs.
    """
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or int(text) < least:
        raise ConfigError(f"option {option}: expected a whole number >= {least}, got {text!r}")
    return int(text)


def load_api() -> ModuleType:
    """`collm.api`, imported late: torch takes seconds, and a mistake in the arguments is told without it."""
    from transformers.utils.logging import disable_progress_bar

    from collm import api

    # A bar per model loaded and saved would bury the run's own display.
    disable_progress_bar()
    return api
