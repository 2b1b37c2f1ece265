"""One run of a comparison in a process of its own, on its own cores.

The process has no terminal: what it would print stands in its log, and how it ends it tells through a pipe.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import platform
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import IO, Any, Literal

from collm.config.schema import Config
from collm.errors import CollmError


@dataclass(frozen=True)
class Note:
    """What a run's process tells."""

    kind: Literal["begun", "finished", "stopped", "failed"]
    text: str = ""
    """What went wrong, in a note of kind failed."""
    machine: dict[str, Any] = field(default_factory=dict)
    """What it runs on, in a note of kind begun."""


def work(config: Config, folder: Path, log: Path, cores: Sequence[int], notes: Connection) -> None:
    """Make the run in `folder`, or the rest of it, on the given cores only.

    Errors that a person can mend are told; any other leaves its traceback in the log and exit code 1.
    """
    # Ctrl-C reaches every process of the terminal's group; whether and when this one stops is its parent's to say, by SIGTERM.
    os.setsid()
    # Before torch counts the cores, here and in the trainer.
    os.sched_setaffinity(0, cores)
    threading.Thread(target=_stop_when_orphaned, daemon=True).start()
    with log.open("a", encoding="utf-8", buffering=1) as out:
        for descriptor in (1, 2):
            os.dup2(out.fileno(), descriptor)
        try:
            _tell(notes, Note("finished" if _train(config, folder, out, len(cores), notes) else "stopped"))
        except CollmError as error:
            print(f"error: {error}", file=out)
            _tell(notes, Note("failed", str(error)))


def _train(config: Config, folder: Path, out: IO[str], threads: int, notes: Connection) -> bool:
    import torch
    from rich.console import Console
    from transformers.utils.logging import disable_progress_bar

    from collm import api

    disable_progress_bar()
    # The parent's main module may have imported torch, and this process with it, before the cores were chosen.
    torch.set_num_threads(threads)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    _tell(notes, Note("begun", machine=_machine(threads, gpu)))
    console = Console(file=out)
    begun = (folder / "config.yaml").is_file()
    return (api.resume(folder, console=console) if begun else api.train(config, run_dir=folder, console=console)).finished


def _stop_when_orphaned() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)


def _tell(notes: Connection, note: Note) -> None:
    # Without its parent a run stops by itself; it need not fail before.
    with contextlib.suppress(OSError):
        notes.send(note)


def _machine(cores: int, gpu: str | None) -> dict[str, Any]:
    return {
        "cpu": _cpu() or platform.machine(),
        "cores_of_a_run": cores,
        "gpu": gpu,
        "system": platform.system(),
        "python": platform.python_version(),
        **{package: version(package) for package in ("collm", "torch", "transformers")},
    }


def _cpu() -> str | None:
    """The processor's name where Linux tells it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return None
