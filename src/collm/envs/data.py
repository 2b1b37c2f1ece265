"""Task rows: the built-in ones, or those of a .csv, .json or .jsonl file or of a Hugging Face Hub data set.

Every error is a DataError that names the file, the line (or row), the field, what is wrong and how to mend it.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from collm.config.tasks import TaskSection
from collm.envs.built_in import BuiltInTask, Split
from collm.envs.tasks import built_in
from collm.errors import DataError
from collm.types import TaskRow

LocatedRow = tuple[str, dict[str, Any]]
"""Where a row stands (file and line) and the row."""

SUFFIXES = (".csv", ".json", ".jsonl")


def load_rows(task: TaskSection) -> tuple[list[TaskRow | None], list[TaskRow | None]]:
    """The training and the test rows of a task, `task.train_rows` and `task.test_rows` of its data.

    An environment of your own without `task.data` has no rows: both lists are [None], which stands for
    `reset(options={"task": None})`.

    Raises DataError for data that cannot be read, a row that the task cannot use and an empty slice.
    """
    if task.data is None and built_in(task) is None:
        return [None], [None]
    rows, split = all_rows(task), _split(task)
    train, test = task.train_rows or split.train, task.test_rows or split.test
    return _slice(rows, train, "task.train_rows", task), _slice(rows, test, "task.test_rows", task)


def not_held_out(task: TaskSection) -> str | None:
    """What to tell somebody who trains on these rows and named one slice alone, which holds rows of the other; else None.

    Raises DataError as `load_rows` does.
    """
    if (task.train_rows is None) == (task.test_rows is None):
        return None
    split, n = _split(task), len(all_rows(task))
    train, test = task.train_rows or split.train, task.test_rows or split.test
    both = sorted(set(_indices(train, n)) & set(_indices(test, n)))
    if not both:
        return None
    named, other = ("train_rows", "test_rows") if task.test_rows is None else ("test_rows", "train_rows")
    rows = f"row {both[0]}" if len(both) == 1 else f"{len(both)} rows ({both[0]} to {both[-1]})"
    return (
        f"{rows} will be both trained on and evaluated on: task.train_rows is {train} and task.test_rows {test}, "
        f"of which only task.{named} was given; give task.{other} too"
    )


def all_rows(task: TaskSection) -> list[TaskRow]:
    """Every row of a task's data, each one checked. Raises DataError as `load_rows` does."""
    known = built_in(task)
    hub_splits = () if known is None else known.hub_splits
    located = read_rows(task.data, hub_splits) if task.data is not None else _built_in(task, known)
    if known is not None:
        for where, row in located:
            known.check_row(task, row, where)
    return [row for _, row in located]


def _split(task: TaskSection) -> Split:
    known = built_in(task)
    if known is None:
        return Split("0:", "0:")
    if task.data is None:
        return known.built_in_split
    split = known.paper_split
    return split if isinstance(split, Split) else split(task)


def read_rows(source: str, hub_splits: Sequence[str] = ()) -> list[LocatedRow]:
    """All rows of a file or of a Hub data set. A .csv gives text fields, .json a list of objects, .jsonl one object per line;
    a Hub data set its `hub_splits`, joined, where it has all of them, else its split `train` or its only one."""
    path = Path(source).expanduser()
    if path.suffix.lower() not in SUFFIXES and not _looks_like_path(source, path):
        return _read_hub(source, hub_splits)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise DataError(
            f"task.data: the file {source} {what} (looked in {Path.cwd()}); give an existing {', '.join(SUFFIXES)} file or a Hub id"
        )
    readers = {".csv": _read_csv, ".json": _read_json, ".jsonl": _read_jsonl}
    if path.suffix.lower() not in readers:
        raise DataError(f"task.data: {source} has no ending that tells its format; name it {', '.join(SUFFIXES)}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as err:
        raise DataError(f"task.data: {source} is not UTF-8 text ({err.reason} at byte {err.start}); save it as UTF-8") from err
    except OSError as err:
        raise DataError(f"task.data: {source} cannot be read: {err}") from err
    return readers[path.suffix.lower()](source, text)


def _looks_like_path(source: str, path: Path) -> bool:
    """A Hub id is `name` or `owner/name`; anything else, and whatever exists on disk, is a path."""
    return path.exists() or source.startswith((".", "/", "~")) or "\\" in source or source.count("/") > 1


def _built_in(task: TaskSection, known: BuiltInTask | None) -> list[LocatedRow]:
    return [] if known is None else [(f"built-in row {i}", dict(row)) for i, row in enumerate(known.rows(task))]


def _read_jsonl(source: str, text: str) -> list[LocatedRow]:
    rows: list[LocatedRow] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            where = f"{source}, line {number}"
            rows.append((where, _object(where, _decode(where, line))))
    return rows


def _read_json(source: str, text: str) -> list[LocatedRow]:
    decoded = _decode(source, text)
    if isinstance(decoded, dict):
        decoded = [decoded]
    if not isinstance(decoded, list):
        raise DataError(f"{source}: expected a list of objects, got {type(decoded).__name__}")
    rows: list[LocatedRow] = []
    for i, row in enumerate(decoded):
        where = f"{source}, row {i}"
        rows.append((where, _object(where, row)))
    return rows


def _read_csv(source: str, text: str) -> list[LocatedRow]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        lines = [(reader.line_num, fields) for fields in reader if fields]
    except csv.Error as err:
        raise DataError(f"{source}, line {reader.line_num}: not CSV ({err}); check its quotes") from err
    if not lines:
        raise DataError(f"{source} is empty; its first line names the fields, for example string,difficulty")
    header = [name.strip() for name in lines[0][1]]
    if len(set(header)) < len(header) or "" in header:
        raise DataError(f"{source}, line {lines[0][0]}: the first line must name every field once, got {','.join(header)}")
    rows: list[LocatedRow] = []
    for number, fields in lines[1:]:
        where = f"{source}, line {number}"
        if len(fields) != len(header):
            raise DataError(
                f"{where}: {len(fields)} fields where the first line names {len(header)} ({', '.join(header)}); fill in or quote them"
            )
        rows.append((where, dict(zip(header, fields, strict=True))))
    return rows


def _read_hub(name: str, wanted: Sequence[str]) -> list[LocatedRow]:
    import datasets  # slow to import, and not needed for local files

    try:
        loaded = datasets.load_dataset(name)
    except (OSError, ValueError) as err:  # not found, no network, no data files in it
        raise DataError(
            f"task.data: {name!r} is no local file and could not be loaded from the Hub ({type(err).__name__}: {err}); "
            f"check the name and the network, or give the path of a {', '.join(SUFFIXES)} file"
        ) from err
    splits = {str(split): data for split, data in loaded.items()}
    if wanted and set(wanted) <= set(splits):
        return [row for split in wanted for row in _located(name, split, splits[split])]
    if "train" not in splits and len(splits) != 1:
        raise DataError(f"task.data: {name} has no split train but {', '.join(splits)}; save the one you want as .jsonl and give its path")
    split = "train" if "train" in splits else next(iter(splits))
    return _located(name, split, splits[split])


def _located(name: str, split: str, data: Iterable[Any]) -> list[LocatedRow]:
    return [(f"{name}, split {split}, row {i}", dict(row)) for i, row in enumerate(data)]


def _decode(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as err:
        raise DataError(f"{where}: not JSON: {err.msg} (line {err.lineno}, column {err.colno} of it)") from err
    except (ValueError, RecursionError) as err:  # a number of too many digits, or nested too deeply
        raise DataError(f"{where}: cannot be read as JSON: {err}") from err


def _object(where: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f'{where}: expected an object with fields, got {type(value).__name__}; write it like {{"string": "ICML"}}')
    return value


def _slice(rows: Sequence[TaskRow], wanted: str, field: str, task: TaskSection) -> list[TaskRow | None]:
    chosen: list[TaskRow | None] = [rows[i] for i in _indices(wanted, len(rows))]
    if not chosen:
        whose = "the built-in data" if task.data is None else task.data
        raise DataError(f"{field}={wanted!r} selects none of the {len(rows)} rows of {whose}; give a slice start:stop inside 0:{len(rows)}")
    return chosen


def _indices(wanted: str, n: int) -> range:
    """The rows that a slice start:stop selects of n."""
    start, stop = (int(bound) if bound else None for bound in wanted.split(":"))
    return range(n)[start:stop]
