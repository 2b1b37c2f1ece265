"""What a built-in task gives to be made, loaded, scored and listed like every other: one `BuiltInTask` each."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from collm.envs.base import TextEnv
from collm.envs.text_env import History
from collm.errors import DataError


@dataclass(frozen=True, slots=True)
class Split:
    """Slices start:stop of the rows to train on and to evaluate on."""

    train: str
    test: str


def _row_itself(reference: Mapping[str, Any], rows: Callable[[], Sequence[Mapping[str, Any]]]) -> Mapping[str, Any]:
    return reference


@dataclass(frozen=True, slots=True)
class BuiltInTask:
    """One task. The functions get its section of the configuration."""

    make: Callable[[Any, int, History], TextEnv]
    """(section, number of agents, history) -> environment. Raises ConfigError."""
    rows: Callable[[Any], Sequence[Mapping[str, Any]]]
    """The rows that come with the project."""
    check_row: Callable[[Any, Mapping[str, Any], str], None]
    """(section, row, where it stands). Raises DataError naming the place, the field, what is wrong and how to mend it."""
    built_in_split: Split
    paper_split: Split | Callable[[Any], Split]
    """For the paper's data set, given by `task.data`; a function of the section where the profiles split differently."""
    example: Mapping[str, Any]
    """What `task` is in a row for `collm score`."""
    find_row: Callable[[Mapping[str, Any], Callable[[], Sequence[Mapping[str, Any]]]], Mapping[str, Any]] = _row_itself
    """(`task` of a row for `collm score`, the rows of the data) -> the task row. Raises DataError where there is none."""
    hub_splits: tuple[str, ...] = ()
    """Splits of a Hub data set that are joined in this order where it has all of them."""


def row_by_id(reference: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], field: str = "task_id") -> Mapping[str, Any]:
    """The row whose `field` is that of `reference`. Raises DataError where the field is missing or no row has the id."""
    if field not in reference:
        has = ", ".join(map(str, reference)) or "none"
        raise DataError(f"task: field {field!r} is missing (fields: {has}); it names a row of task.data")
    found = next((row for row in rows if row.get(field) == reference[field]), None)
    if found is None:
        known, wanted = ", ".join(json.dumps(row.get(field)) for row in rows[:4]), json.dumps(reference[field])
        raise DataError(f"task: no row has {field} {wanted}; the {len(rows)} rows have {known}, ...; task.data chooses the set")
    return found
