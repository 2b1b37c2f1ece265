"""Where a run's folder goes. A run is never written over another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from collm.config.schema import Config
from collm.errors import RunFolderError

_MARKS = ("config.yaml", "metrics.jsonl", "checkpoints")
"""Any of these makes a folder a run's."""


@contextmanager
def new_run_dir(config: Config, wanted: Path | None, parent: Path = Path("runs"), protocol: str | None = None) -> Iterator[Path]:
    """A fresh folder for a run: `wanted`, or the first free `runs/<task>-<method>-seed<seed>[-2, -3, ...]`.

    With a `protocol` it is an evaluation's: `runs/eval-<task>-<protocol>-seed<seed>`.

    It is there when the block starts and gone after it if nothing was written. Raises RunFolderError where `wanted`
    holds a run, and where the folder cannot be made.
    """
    try:
        folder = _made(wanted) if wanted is not None else _first_free(parent, _run_name(config, protocol))
    except OSError as error:
        raise RunFolderError(f"run folder {error.filename} cannot be made: {error.strerror}") from error
    try:
        yield folder
    finally:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def existing_run(folder: Path) -> Path:
    """`folder`, if it holds a run. Raises RunFolderError if not."""
    if not (folder / "config.yaml").is_file():
        raise RunFolderError(f"{folder} holds no run: there is no {folder / 'config.yaml'}")
    return folder


def _run_name(config: Config, protocol: str | None) -> str:
    task = config.task.name
    if task == "custom" and config.task.env is not None:
        task = config.task.env.rpartition(":")[2]
    return f"{task}-{config.method}-seed{config.seed}" if protocol is None else f"eval-{task}-{protocol}-seed{config.seed}"


def free_for_run(folder: Path) -> Path:
    """`folder`, if a run may go there. Raises RunFolderError where it holds one already."""
    found = [mark for mark in _MARKS if (folder / mark).exists()]
    if found:
        raise RunFolderError(
            f"run folder {folder} already holds a run ({found[0]}); continue it with `collm train --resume {folder}` or name another folder"
        )
    return folder


def _made(folder: Path) -> Path:
    free_for_run(folder).mkdir(parents=True, exist_ok=True)
    return folder


def _first_free(parent: Path, name: str) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    for i in count(1):
        folder = parent / (name if i == 1 else f"{name}-{i}")
        try:
            # Making it is the test, so that two runs started together do not take the same folder.
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError("count() has no end")
