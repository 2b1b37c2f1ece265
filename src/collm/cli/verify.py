"""`collm verify`: the production estimators against exact gradients."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from collm.config.nearest import nearest
from collm.config.presets import methods as method_names
from collm.errors import ConfigError

_TABLE_WIDTH = 120


def verify(
    methods: Annotated[list[str] | None, typer.Argument(metavar="METHOD...", help="restrict to these methods", show_default=False)] = None,
) -> None:
    """Compare every method's expected gradient with the exact one.

    Plays small problems through the production code, all outcomes weighted by their probability. Exit code 1 if a row fails.
    """
    for name in methods or []:
        if name not in method_names():
            raise ConfigError(
                f"argument METHOD: {name!r} is no method; nearest: {nearest(name, method_names())} (all: {', '.join(method_names())})"
            )
    # Late: torch takes seconds, and a mistake in the arguments is told without it.
    from collm.verify import run
    from collm.verify.table import Verdict, print_table

    console = Console()
    if not console.is_terminal:
        # A file has no width; the table needs this much to keep a row on a line.
        console = Console(width=_TABLE_WIDTH)
    if unknown := [name for name in methods or [] if name not in run.METHODS]:
        raise ConfigError(f"argument METHOD: the laboratory has no rows for {unknown[0]}; it has {', '.join(run.METHODS)}")
    with console.status("verifying") as status:
        rows = run.verify(methods or [], lambda method: status.update(f"verifying {method}"))
    print_table(rows, console)
    if any(row.verdict is Verdict.FAIL for row in rows):
        raise typer.Exit(1)
