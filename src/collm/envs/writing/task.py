"""TLDR and arXiv among the built-in tasks."""

from __future__ import annotations

from collm.envs.built_in import BuiltInTask, Split
from collm.envs.writing.env import WritingEnv
from collm.envs.writing.rows import TaskName, built_in_rows, check_row, row_to_score


def _writing(name: TaskName) -> BuiltInTask:
    return BuiltInTask(
        make=WritingEnv,
        rows=lambda task: built_in_rows(name),
        check_row=lambda task, row, where: check_row(name, row, where),
        built_in_split=Split("0:48", "48:60"),
        paper_split=Split("0:1000", "1000:1100"),
        example={},
        find_row=row_to_score(name),
    )


TLDR = _writing("tldr")
ARXIV = _writing("arxiv")
