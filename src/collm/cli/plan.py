"""`collm plan`: the memory that a run will take, before anything is loaded."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from collm.cli.common import ConfigFile, Method, Overrides, Preset, whole_number
from collm.config.load import DEFAULT_PRESET, load_config_file, resolve
from collm.config.rundir import existing_run
from collm.config.schema import Config
from collm.errors import ConfigError

WIDEST = 100
"""Columns; a pipe has no width of its own."""
UNITS = {"MB": 10**6, "GB": 10**9, "MIB": 2**20, "GIB": 2**30}


def plan(
    task: Annotated[str, typer.Argument(metavar="TASK_OR_CONFIG", help="as for collm train; or a complete config.yaml, or a run's folder")],
    overrides: Overrides = None,
    method: Method = None,
    preset: Preset = None,
    config: ConfigFile = None,
    turns: Annotated[
        str | None, typer.Option("--turns", metavar="NUMBER", help="turn limit H of an environment of your own", show_default=False)
    ] = None,
    history_tokens: Annotated[
        str | None,
        typer.Option(
            "--history-tokens", metavar="NUMBER", help="an agent's longest history (default: all of context_window)", show_default=False
        ),
    ] = None,
    device_memory: Annotated[
        list[str] | None,
        typer.Option(
            "--device-memory", metavar="DEVICE=SIZE", help="such as cuda=80GB, cpu=16GiB; also for devices not here", show_default=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON, sizes in bytes")] = False,
) -> None:
    """Predict the memory of a run per device, and say what to change when it does not fit.

    Only the models' config.json are read. Exit code 0: fits, or nobody knows; 1: does not fit; 2: a mistake in the arguments.
    """
    settings = _settings(task, method, preset, config, overrides or [])
    sizes = dict(_device_size(text) for text in device_memory or [])
    # Late: torch takes seconds, and a mistake in the arguments is told without it.
    from collm.planning.ask import answer

    expected_turns, expected_tokens = whole_number(turns, "--turns", 1), whole_number(history_tokens, "--history-tokens", 2)
    view, data, fits = answer(settings, sizes, expected_turns, expected_tokens)
    if as_json:
        typer.echo(json.dumps(data, indent=1))
    else:
        console = Console()
        if not console.is_terminal or console.width > WIDEST:
            console = Console(width=WIDEST)
        with console.capture() as text:
            console.print(view, highlight=False)
        typer.echo("\n".join(line.rstrip() for line in text.get().splitlines()))
    raise typer.Exit(1 if fits is False else 0)


def _settings(task: str, method: str | None, preset: str | None, config: Path | None, overrides: list[str]) -> Config:
    """A file or a run's folder is complete; anything else is a task, resolved as `collm train` does."""
    path = Path(task)
    if path.suffix not in (".yaml", ".yml") and not path.is_dir():
        return resolve(task, method=method, preset=preset or DEFAULT_PRESET, config_file=config, overrides=overrides)
    if any(given is not None for given in (method, preset, config)):
        raise ConfigError(f"{task} is a complete configuration: give no --method, --preset or --config with it, but key.path=value")
    from collm.planning.advice import overridden

    return overridden(load_config_file(path if path.suffix in (".yaml", ".yml") else existing_run(path) / "config.yaml"), overrides)


def _device_size(text: str) -> tuple[str, int]:
    matched = re.fullmatch(r"(cpu|cuda(?::\d+)?)=(\d+(?:\.\d+)?) ?([MG]i?B)", text, re.IGNORECASE)
    if matched is None:
        raise ConfigError(f"option --device-memory: expected DEVICE=SIZE such as cuda=80GB, cuda:1=24GiB or cpu=16GB, got {text!r}")
    device, number, unit = matched.groups()
    return device.lower(), round(float(number) * UNITS[unit.upper()])
