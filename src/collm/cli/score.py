"""`collm score`: rewards of recorded responses, row by row."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from collm.cli.common import ConfigFile, Overrides, Task
from collm.config.load import resolve_task
from collm.errors import CollmError, DataError


def score(
    task: Task,
    file: Annotated[Path, typer.Argument(metavar="FILE.jsonl", help='rows {"task": {...}, "responses": ["...", "..."]}')],
    overrides: Overrides = None,
    config: ConfigFile = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="write here instead of to standard output", show_default=False)] = None,
) -> None:
    """Score recorded responses, one JSON object per row.

    Each has reward and metrics; they come in the order of the rows.
    """
    section = resolve_task(task, config_file=config, overrides=overrides or [])
    from collm.envs.score import Scorer

    scorer = Scorer(section)
    with _output(out) as stream:
        for where, row in _rows(file):
            try:
                result = scorer.score(row)
            except CollmError as error:
                error.add_place(where)
                raise
            stream.write(f"{json.dumps(result)}\n")


def _rows(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each row with its file and line, read as it is asked for. Raises DataError where a line is no JSON object."""
    try:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                where = f"{file}, line {number}"
                if line.strip():
                    yield where, _row(line, where)
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 text ({error.reason})") from error
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from error


def _row(line: str, where: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: not valid JSON: {error.msg} at column {error.colno}") from error
    except (ValueError, RecursionError) as error:  # a number of too many digits, or nested too deeply
        raise DataError(f"{where}: cannot be read as JSON: {error}") from error
    if not isinstance(row, dict):
        raise DataError(f'{where}: expected an object {{"task": ..., "responses": [...]}}, got {line.strip()[:60]}')
    return row


@contextmanager
def _output(out: Path | None) -> Iterator[IO[str]]:
    """Standard output, or a file that appears under its name only when it is closed.

    An error on the way keeps what was written until then, so that hours of scoring are not lost to one bad row; with
    nothing written an older file of that name stays. Raises DataError where the file cannot be written.
    """
    if out is None:
        yield sys.stdout
        return
    if out.is_dir():
        raise DataError(f"option --out: {out} cannot be written: it is a folder")
    try:
        stream = tempfile.NamedTemporaryFile("w", dir=out.parent, prefix=f".{out.name}.", encoding="utf-8", delete=False)  # noqa: SIM115
    except OSError as error:
        raise DataError(f"option --out: {out} cannot be written: {error.strerror}") from error
    part = Path(stream.name)
    finished = False
    try:
        with stream:
            yield stream
        finished = True
    except CollmError as error:
        count = len(part.read_text(encoding="utf-8").splitlines())
        if count:
            error.add_place(f"{out} holds the {count} rows before the one that failed")
        raise
    finally:
        if finished or part.stat().st_size > 0:
            part.chmod(0o644)
            part.replace(out)
        else:
            part.unlink()
