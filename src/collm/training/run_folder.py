"""The run folder: append-only JSON-lines files, atomic checkpoints and final models.

    config.yaml  metrics.jsonl  eval.jsonl  episodes.jsonl  tensorboard/  checkpoints/update_000012/  final/  plots/

A checkpoint remembers how long the append-only files were; resuming cuts them back to that length, so that what a
killed run had written past its last checkpoint is written once more and not twice.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from collm.config.load import dump
from collm.config.schema import Config
from collm.errors import RunFolderError

LIVE_MARKS = "live-objects.json"
LOGS = ("metrics.jsonl", "eval.jsonl", "episodes.jsonl")


class RunFolder:
    """One run's folder. Holds a lock while open, so that two processes never write the same run."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def create(cls, path: Path, config: Config) -> RunFolder:
        """Start a new run. Raises RunFolderError if the folder already holds one."""
        if (path / "config.yaml").exists():
            raise RunFolderError(f"{path} already holds a run; continue it with `collm train --resume {path}` or give another --run-dir")
        path.mkdir(parents=True, exist_ok=True)
        folder = cls(path, _lock(path))
        write_atomic(path / "config.yaml", dump(config))
        return folder

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open an existing run for writing. Raises RunFolderError if it is none, or is being written by another process."""
        if not (path / "config.yaml").is_file():
            raise RunFolderError(f"{path} is not a run folder: it has no config.yaml (collm train makes run folders)")
        return cls(path, _lock(path))

    def mark_live(self, names: list[str]) -> None:
        """Remember which live objects the run was given, since no configuration can name them."""
        if names:
            write_atomic(self.path / LIVE_MARKS, json.dumps(names))

    def close(self) -> None:
        os.close(self._lock)

    def append(self, log: str, rows: Iterable[dict[str, Any]]) -> None:
        """Append JSON objects to one of the run's logs. Raises RunFolderError when the disk refuses."""
        try:
            with (self.path / log).open("a", encoding="utf-8") as f:
                f.writelines(json.dumps(row) + "\n" for row in rows)
        except OSError as error:
            raise _disk_error(self.path / log, error) from error

    def log_sizes(self) -> dict[str, int]:
        """Present size in bytes of each append-only log."""
        return {log: (self.path / log).stat().st_size if (self.path / log).exists() else 0 for log in LOGS}

    def cut_logs(self, sizes: dict[str, int]) -> None:
        """Cut the logs back to the given sizes."""
        for log, size in sizes.items():
            target = self.path / log
            if target.exists():
                os.truncate(target, size)

    # -- checkpoints -----------------------------------------------------------------------------------------------

    def save_checkpoint(self, update: int, state: dict[str, Any], keep: int) -> Path:
        """Write a checkpoint atomically: a kill at any moment leaves the old ones or the old ones and the new one."""
        folder = self.path / "checkpoints"
        final, temporary = folder / f"update_{update:06d}", folder / f".writing_{update:06d}"
        try:
            for left in folder.glob(".writing_*"):
                shutil.rmtree(left)
            temporary.mkdir(parents=True)
            for log in LOGS:
                _sync(self.path / log)
            with (temporary / "state.pt").open("wb") as f:
                torch.save({**state, "log_sizes": self.log_sizes()}, f)
                f.flush()
                os.fsync(f.fileno())
            _sync(temporary)
            if final.exists():
                # The same update once more (its evaluation has come since): a folder cannot replace another in one step, a file can.
                (temporary / "state.pt").replace(final / "state.pt")
                temporary.rmdir()
                _sync(final)
            else:
                temporary.rename(final)
            _sync(folder)
        except (OSError, RuntimeError) as error:
            # torch reports a full disk as a RuntimeError of its file writer.
            shutil.rmtree(temporary, ignore_errors=True)
            raise _disk_error(final, error) from error
        for old in self.checkpoints()[:-keep]:
            shutil.rmtree(old)
        return final

    def checkpoints(self) -> list[Path]:
        """Complete checkpoints, oldest first."""
        return sorted((self.path / "checkpoints").glob("update_*"))

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The newest checkpoint's state, or None where there is none yet."""
        found = self.checkpoints()
        if not found:
            return None
        # A run's own file: it holds the replay buffer's records beside tensors.
        return torch.load(found[-1] / "state.pt", map_location="cpu", weights_only=False)


def check_live_marks(run_dir: Path, given: Mapping[str, object]) -> None:
    """Raises RunFolderError where a run was started with live objects that are not given now (None in `given`)."""
    marks = run_dir / LIVE_MARKS
    wanted = json.loads(marks.read_text()) if marks.exists() else []
    missing = [name for name in wanted if name in given and given[name] is None]
    if missing:
        raise RunFolderError(f"{run_dir} was trained with live objects; pass them again from Python: {', '.join(missing)}=...")


def write_atomic(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old content or the new, never half."""
    temporary = path.with_name(f".{path.name}.writing")
    try:
        with temporary.open("w", encoding="utf-8") as f:
            f.write(text)
            f.flush()
            os.fsync(f.fileno())
        temporary.replace(path)
    except OSError as error:
        raise _disk_error(path, error) from error


def _sync(path: Path) -> None:
    if path.exists():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _lock(path: Path) -> int:
    descriptor = os.open(path / ".lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise RunFolderError(f"{path} is being written by another process; wait for it or stop it first") from error
    return descriptor


def _disk_error(path: Path, error: BaseException) -> RunFolderError:
    return RunFolderError(
        f"could not write {path}: {error}; free some space (or mend the permissions) and continue with `collm train --resume`"
    )
