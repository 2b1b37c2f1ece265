"""Text of agents and environments as it may be shown: made visible, wrapped, and abridged where it is long."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from collm.types import TaskRow

HEAD, TAIL = 8, 4
"""Lines kept of a text that is abridged."""
SLACK = 3
"""A text is abridged only where that saves more than this many lines."""


LONGEST_FIELD = 60
"""Characters of a task row's field that is shown with others on a line."""


def visible(text: str) -> str:
    """The text with everything that could steer a terminal (controls, formats, lone surrogates) written as an escape.

    A response may hold any character, and an escape sequence in it must not reach the reader's terminal.
    """
    text = text.replace("\r\n", "\n").expandtabs(4)
    return "".join(c if c == "\n" or _harmless(c) else c.encode("unicode_escape").decode("ascii") for c in text)


def _harmless(character: str) -> bool:
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp")


def wrapped(text: str, width: int, console: Console) -> list[Text]:
    """The lines of a text as shown in `width` columns; a line that is longer goes on in the next, whole words where it can."""
    if not text.strip():
        return [Text("(white space only)" if text else "(nothing)", style="dim italic")]
    return list(Text(visible(text).rstrip("\n")).wrap(console, width, overflow="fold", no_wrap=False))


def abridged(lines: Sequence[Text]) -> list[Text]:
    """The lines, the middle of many left out and counted."""
    left_out = len(lines) - HEAD - TAIL
    if left_out <= SLACK:
        return list(lines)
    note = Text(f"... {left_out} more lines: --full shows them", style="dim italic")
    return [*lines[:HEAD], note, *lines[-TAIL:]]


def row_text(row: TaskRow | None) -> str:
    """The short fields of a task row on one line: `string ICML, difficulty 3`."""
    short = {key: plain_value(value) for key, value in (row or {}).items() if key not in long_fields(row)}
    return ", ".join(f"{key} {value}" for key, value in short.items())


def long_fields(row: TaskRow | None) -> dict[str, str]:
    """The fields of a task row that do not go on one line with others, as text."""
    told = {key: plain_value(value) for key, value in (row or {}).items()}
    return {key: value for key, value in told.items() if len(value) > LONGEST_FIELD or "\n" in value}


def plain_value(value: Any) -> str:
    """Text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
