"""`collm sandbox`: runs one untrusted program, or judges it by a list of tests."""

from __future__ import annotations

import json
import math
import tokenize
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from collm.cli.common import whole_number
from collm.config.nearest import nearest
from collm.errors import ConfigError, DataError, SandboxError
from collm.sandbox import Level, Limits, Sandbox, Verdict

_DEFAULT = Limits()


def sandbox(
    file: Annotated[Path, typer.Argument(metavar="FILE.py", help="the program")],
    tests: Annotated[
        Path | None, typer.Option("--tests", metavar="TESTS.json", help="a list of assert statements about it", show_default=False)
    ] = None,
    timeout: Annotated[
        str | None,
        typer.Option(
            "--timeout", metavar="S", help=f"seconds for loading and for each test (default {_DEFAULT.seconds:g})", show_default=False
        ),
    ] = None,
    memory_mb: Annotated[
        str | None, typer.Option("--memory-mb", metavar="M", help=f"MiB of memory (default {_DEFAULT.memory_mb})", show_default=False)
    ] = None,
    level: Annotated[
        str, typer.Option("--level", help="full, or by name a lower one where full cannot be had: filtered, rlimits")
    ] = Level.FULL.value,
) -> None:
    """Run an untrusted program in a sandbox, or judge it by tests that it cannot see.

    What it wrote is shown with "| " in front of each line; the last line is a JSON object with status, results (one boolean per
    test), errors, seconds and enforced: what holds on this machine.
    """
    limits = _limits(timeout, memory_mb)
    wanted = _level(level)
    program = _read_program(file)
    snippets = None if tests is None else _read_tests(tests)
    with Sandbox(wanted, workers=1) as box:
        try:
            verdict = box.run(program, snippets or (), limits)
        except SandboxError as error:
            if tests is not None:
                error.add_place(str(tests))
            raise
        for line in verdict.output.splitlines():
            typer.echo(f"| {_printable(line)}")
        typer.echo(json.dumps(_summary(verdict, wanted, box.enforced, with_tests=snippets is not None)))


def _summary(verdict: Verdict, level: Level, enforced: dict[str, bool], with_tests: bool) -> dict[str, Any]:
    summary: dict[str, Any] = {"status": verdict.status.value, "error": verdict.error}
    if with_tests:
        summary["results"] = [result.passed for result in verdict.results]
        summary["errors"] = [result.error for result in verdict.results]
    return summary | {"seconds": round(verdict.seconds, 6), "level": level.value, "enforced": enforced}


def _printable(line: str) -> str:
    """A line without control characters, which could move the cursor over what is printed later."""
    return "".join(character if character.isprintable() else character.encode("unicode_escape").decode("ascii") for character in line)


def _limits(timeout: str | None, memory_mb: str | None) -> Limits:
    limits = _DEFAULT
    if timeout is not None:
        limits = replace(limits, seconds=_seconds(timeout))
    memory = whole_number(memory_mb, "--memory-mb", least=64)
    return limits if memory is None else replace(limits, memory_mb=memory)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise ConfigError(f"option --timeout: expected a number of seconds above 0, got {text!r}")
    return seconds


def _level(name: str) -> Level:
    names = [level.value for level in Level]
    if name not in names:
        raise ConfigError(f"option --level: there is no level {name!r} (did you mean {nearest(name, names)!r}?): {', '.join(names)}")
    return Level(name)


def _read_program(file: Path) -> str:
    try:
        with tokenize.open(file) as stream:
            return stream.read()
    except (SyntaxError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: not the text of a Python program: {error}") from error
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from error


def _read_tests(file: Path) -> list[str]:
    """The statements of a JSON list. Raises DataError where the file is something else."""
    try:
        tests = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(f"{file}, line {error.lineno}: not valid JSON: {error.msg} at column {error.colno}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 text ({error.reason})") from error
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from error
    if not isinstance(tests, list):
        raise DataError(f'{file}: expected a JSON list of assert statements, such as ["assert f(1) == 2"], got {json.dumps(tests)[:60]}')
    for number, test in enumerate(tests, start=1):
        if not isinstance(test, str):
            raise DataError(f"{file}, entry {number}: expected a string with an assert statement, got {json.dumps(test)[:60]}")
    return tests
