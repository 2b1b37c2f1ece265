"""StrBuild among the built-in tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from collm.config.tasks import StrBuildTask
from collm.envs.built_in import BuiltInTask, Split
from collm.envs.strbuild.env import StrBuildEnv
from collm.envs.strbuild.rows import BUILT_IN_ROWS, row_layout
from collm.envs.strbuild.rules import PROFILES


def _check_row(task: StrBuildTask, row: Mapping[str, Any], where: str) -> None:
    row_layout(row, PROFILES[task.profile].blank_unknown, where)


STRBUILD = BuiltInTask(
    make=StrBuildEnv,
    rows=lambda task: BUILT_IN_ROWS,
    check_row=_check_row,
    built_in_split=Split("0:8", "8:10"),
    paper_split=Split("0:8", "8:10"),
    example={"string": "ICML"},
)
