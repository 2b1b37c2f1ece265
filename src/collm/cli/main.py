"""The command line: `collm train | plan | eval | show | score | sandbox | compare | list | config | verify`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

import collm
from collm.cli.catalog import config, list_
from collm.cli.compare import compare
from collm.cli.evaluate import evaluate
from collm.cli.plan import plan
from collm.cli.sandbox import sandbox
from collm.cli.score import score
from collm.cli.show import show
from collm.cli.train import train
from collm.cli.verify import verify
from collm.errors import CollmError

app = typer.Typer(
    name="collm",
    help="Train a team of language models to solve tasks together, each acting on its own history.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("train")(train)
app.command("plan")(plan)
app.command("eval")(evaluate)
app.command("score")(score)
app.command("sandbox")(sandbox)
app.command("show")(show)
app.command("compare")(compare)
app.command("list")(list_)
app.command("config")(config)
app.command("verify")(verify)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"collm {collm.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version and exit")] = False,
) -> None:
    pass


def app_main(argv: Sequence[str] | None = None) -> None:
    """Runs one command. What a person can mend is told in one message with exit code 2; anything else propagates."""
    try:
        app(args=argv, prog_name="collm")
    except CollmError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    app_main()
