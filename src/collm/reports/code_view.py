"""A program and the verdicts of its tests, as the details of a joint action tell them.

`{"program": str, "tests": [{"test": str, "passed": bool, "error": str}, ...]}`; `error` is empty for a test that passed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group
from rich.syntax import Syntax
from rich.text import Text

from collm.reports.episode_text import visible, wrapped

PASSED, FAILED = "✓", "✗"
INDENT = 2


@dataclass(frozen=True, slots=True)
class Verdict:
    """One test."""

    test: str
    passed: bool
    error: str


@dataclass(frozen=True, slots=True)
class JudgedProgram:
    """What was run, and what came of it."""

    program: str
    verdicts: Sequence[Verdict]


def read_program(details: Mapping[str, Any]) -> JudgedProgram | None:
    """The program among a joint action's details; None where they hold none (an environment may mean anything by these keys)."""
    program, tests = details.get("program"), details.get("tests", [])
    if not isinstance(program, str) or not isinstance(tests, list) or not all(_is_verdict(t) for t in tests):
        return None
    return JudgedProgram(program, [Verdict(t["test"], t["passed"], t.get("error") or "") for t in tests])


def program_view(judged: JudgedProgram, width: int, console: Console) -> Group:
    """The program, highlighted, then each test with a tick or a cross and its error."""
    lines = _code(judged.program, width - INDENT, console)
    if judged.verdicts:
        passed = sum(v.passed for v in judged.verdicts)
        lines += [Text(f"tests: {passed} of {len(judged.verdicts)} passed", style="bold")]
    for verdict in judged.verdicts:
        mark, style = (PASSED, "green") if verdict.passed else (FAILED, "red")
        lines += _hanging(mark, wrapped(verdict.test, width - INDENT, console), style)
        if verdict.error:
            lines += _hanging("", _styled(wrapped(verdict.error, width - 2 * INDENT, console), style), style, 2 * INDENT)
    return Group(*lines)


def _code(program: str, width: int, console: Console) -> list[Text]:
    if not program.strip():
        return [Text("no program: nothing of the responses could be used", style="dim italic")]
    # ANSI colours are the terminal's own, readable on its background.
    code = Syntax("", "python", theme="ansi_light", background_color="default").highlight(visible(program).strip("\n"))
    code.rstrip()
    return _hanging("│", code.wrap(console, width, overflow="fold", no_wrap=False), "dim", repeat=True)


def _hanging(mark: str, lines: Iterable[Text], style: str, indent: int = INDENT, repeat: bool = False) -> list[Text]:
    """Lines behind a mark: before the first alone, or before each."""
    return [Text.assemble((f"{mark if repeat or i == 0 else '':<{indent}}", style), line) for i, line in enumerate(lines)]


def _styled(lines: Iterable[Text], style: str) -> list[Text]:
    return [Text(line.plain, style=style) for line in lines]


def _is_verdict(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("test"), str)
        and isinstance(value.get("passed"), bool)
        and isinstance(value.get("error", ""), str | None)
    )
