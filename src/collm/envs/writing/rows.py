"""Task rows of the writing tasks: `{"prompt": post}` for TLDR (trl-lib/tldr), `{"abstract_text": abstract}` for arXiv
(OpenMLRL/arXiv_abstract). Other fields are left alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

from collm.errors import DataError

TaskName = Literal["tldr", "arxiv"]
COLUMN: dict[TaskName, str] = {"tldr": "prompt", "arxiv": "abstract_text"}
_FILE: dict[TaskName, str] = {"tldr": "posts.jsonl", "arxiv": "abstracts.jsonl"}


@cache
def built_in_rows(task: TaskName) -> tuple[Mapping[str, Any], ...]:
    """The rows that come with the project, made by scripts/make_writing_data.py: 48 to train on, 12 to test on."""
    lines = Path(__file__).with_name(_FILE[task]).read_text(encoding="utf-8").splitlines()
    return tuple(json.loads(line) for line in lines)


def row_source(task: TaskName, row: object, where: str = "task") -> str:
    """The post or abstract of a row. Raises DataError, naming `where` and the field, for a row without one."""
    column = COLUMN[task]
    like = f'a row is like {{"{column}": "the text"}}'
    if not isinstance(row, Mapping):
        raise DataError(f"{where}: expected an object with fields, got {str(row)[:60]!r}; {like}")
    if column not in row:
        raise DataError(f"{where}: field {column!r} is missing (fields: {', '.join(map(str, row)) or 'none'}); {like}")
    source = row[column]
    if not isinstance(source, str):
        raise DataError(f"{where}, field {column!r}: expected text, got {type(source).__name__}; {like}")
    return source


def check_row(task: TaskName, row: Mapping[str, Any], where: str) -> None:
    """Raise DataError for a row that gives the agents nothing to read."""
    if not row_source(task, row, where).strip():
        raise DataError(f"{where}, field {COLUMN[task]!r}: the text is empty; leave the row out")


def row_to_score(task: TaskName) -> Callable[[Mapping[str, Any], Callable[[], Sequence[Mapping[str, Any]]]], Mapping[str, Any]]:
    """For `collm score`: the reward reads the responses alone, so `"task": {}` will do, which stands for an empty source."""
    blank = {COLUMN[task]: ""}
    return lambda reference, rows: {**blank, **reference}
