"""HouseBuild among the built-in tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from collm.config.tasks import HouseBuildTask
from collm.envs.built_in import BuiltInTask, Split, row_by_id
from collm.envs.housebuild.blueprint import row_blueprint
from collm.envs.housebuild.env import HouseBuildEnv
from collm.envs.housebuild.houses import BUILT_IN_ROWS
from collm.envs.housebuild.spiders import row_spiders
from collm.errors import DataError

_REFERENCE = ("task_id", "spiders", "player_hp")
"""Fields of `task` in a row for `collm score` that names a blueprint of the data."""


def _check_row(task: HouseBuildTask, row: Mapping[str, Any], where: str) -> None:
    row_blueprint(row, where)
    row_spiders(row, where)


def _find_row(reference: Mapping[str, Any], rows: Callable[[], Sequence[Mapping[str, Any]]]) -> Mapping[str, Any]:
    """The blueprint with the reference's id, met by the reference's spiders; a reference with a blueprint is the row itself."""
    if "target_spec" in reference:
        return reference
    unknown = next((field for field in reference if field not in _REFERENCE), None)
    if unknown is not None:
        raise DataError(f"task: field {unknown!r} is not known; a row names a blueprint by {', '.join(_REFERENCE)} (the last two optional)")
    return {**row_by_id(reference, rows()), **reference}


HOUSEBUILD = BuiltInTask(
    make=HouseBuildEnv,
    rows=lambda task: BUILT_IN_ROWS,
    check_row=_check_row,
    built_in_split=Split("0:8", "8:10"),
    paper_split=Split("0:8", "8:10"),
    example={"task_id": "house_build_0002", "spiders": [1, 3, 2], "player_hp": 5},
    find_row=_find_row,
)
