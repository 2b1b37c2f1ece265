"""CoopHE, HumanEval and MBPP among the built-in tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from collm.config.tasks import CodingSection
from collm.envs.built_in import BuiltInTask, Split, row_by_id
from collm.envs.coding.env import CodingEnv
from collm.envs.coding.problem import read_problem
from collm.envs.coding.rows import built_in_mbpp_rows, built_in_rows

_COOPHE_SPLITS = {"paper": Split("0:66", "66:82"), "comlrl": Split("16:", "0:16")}
_HUMANEVAL_SPLIT = Split("0:132", "132:164")
"""The project's own: the paper does not train on it, and it has no split. Four fifths to train on."""
_MBPP_SPLIT = Split("600:974", "10:510")
"""MBPP's: task_id 601 to 974 train, 11 to 510 test."""
_BUILT_IN_SPLIT = Split("0:32", "32:40")


def _check_row(task: CodingSection, row: Mapping[str, Any], where: str) -> None:
    read_problem(row, where)


def _find_row(reference: Mapping[str, Any], rows: Callable[[], Sequence[Mapping[str, Any]]]) -> Mapping[str, Any]:
    """A problem as it is, or the one of the data with this `task_id`."""
    return reference if "prompt" in reference or "test_list" in reference else row_by_id(reference, rows())


COOPHE = BuiltInTask(
    make=CodingEnv,
    rows=lambda task: built_in_rows(),
    check_row=_check_row,
    built_in_split=_BUILT_IN_SPLIT,
    paper_split=lambda task: _COOPHE_SPLITS[task.profile],
    example={"task_id": "CoopHumanEval/0"},
    find_row=_find_row,
)
HUMANEVAL = BuiltInTask(
    make=CodingEnv,
    rows=lambda task: built_in_rows(),
    check_row=_check_row,
    built_in_split=_BUILT_IN_SPLIT,
    paper_split=_HUMANEVAL_SPLIT,
    example={"task_id": "HumanEval/0"},
    find_row=_find_row,
)
MBPP = BuiltInTask(
    make=CodingEnv,
    rows=lambda task: built_in_mbpp_rows(),
    check_row=_check_row,
    built_in_split=_BUILT_IN_SPLIT,
    paper_split=_MBPP_SPLIT,
    example={"task_id": 601},
    find_row=_find_row,
    hub_splits=("prompt", "test", "validation", "train"),
)
