"""Several runs at once, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from collm.comparison.plan import PlannedRun
from collm.comparison.worker import Note, work
from collm.training.stop import StopRequested, StopSwitch

_POLL_SECONDS = 0.5


@dataclass
class Outcome:
    """How the runs ended."""

    finished: list[PlannedRun] = field(default_factory=list)
    failed: dict[Path, str] = field(default_factory=dict)
    """Run folder -> what went wrong."""
    stopped_by: str | None = None
    """Name of the signal that stopped the comparison, if one did."""
    machine: dict[str, Any] = field(default_factory=dict)
    """What the runs ran on; empty where none began."""


class Watcher:
    """Sees the runs begin, go on and end; shows nothing. The base of what a person watches."""

    def planned(self, missing: int) -> None:
        """Before the first run; `missing` of the comparison's runs are not finished yet."""

    def begun(self, run: PlannedRun) -> None:
        """A run's process was started."""

    def going(self, runs: Sequence[PlannedRun]) -> None:
        """About every half second, with the runs that are being made."""

    def ended(self, run: PlannedRun, error: str | None) -> None:
        """A run has finished, or failed with `error`."""

    def stopping(self, signal_name: str) -> None:
        """A signal came: the runs that are being made write their checkpoints and stop."""


def run_all(runs: Sequence[PlannedRun], jobs: int, logs: Path, watcher: Watcher) -> Outcome:
    """Make the runs, `jobs` at once, each with its share of the cores and its output in `logs`.

    A run that fails takes no other down. SIGINT or SIGTERM stops all of them gracefully and starts no more; a second SIGINT
    kills them (each goes on from its last checkpoint when it is resumed).
    """
    watcher.planned(len(runs))
    if runs:
        logs.mkdir(parents=True, exist_ok=True)
    pool = _Pool(runs, core_shares(jobs), logs, watcher)
    switch = StopSwitch()
    with switch.listening():
        pool.run(switch.check)
    return pool.outcome


def core_shares(jobs: int) -> list[list[int]]:
    """The cores of each of `jobs` runs at once: equally many each (a rest stays idle), and one core shared where they are too few."""
    cores = sorted(os.sched_getaffinity(0))
    each = max(1, len(cores) // jobs)
    return [[cores[(i * each + k) % len(cores)] for k in range(each)] for i in range(jobs)]


@dataclass
class _Job:
    run: PlannedRun
    process: SpawnProcess
    cores: list[int]
    log: Path
    last: Note | None = None


class _Pool:
    def __init__(self, runs: Sequence[PlannedRun], shares: Sequence[list[int]], logs: Path, watcher: Watcher) -> None:
        self.outcome = Outcome()
        self._waiting = deque(runs)
        self._free = deque(shares)
        self._logs = logs
        self._watcher = watcher
        self._jobs: dict[Connection, _Job] = {}

    def run(self, check: Callable[[], None]) -> None:
        """To the last run, or to the end of those that are being made when `check` raises StopRequested."""
        try:
            while self._waiting or self._jobs:
                try:
                    check()
                except StopRequested as stop:
                    self._stop(stop.signal_name)
                while self._waiting and self._free:
                    self._start(self._waiting.popleft())
                for notes in wait(list(self._jobs), timeout=_POLL_SECONDS):
                    if isinstance(notes, Connection):
                        self._hear(notes)
                self._watcher.going([job.run for job in self._jobs.values()])
        finally:
            for job in self._jobs.values():
                job.process.kill()

    def _start(self, run: PlannedRun) -> None:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe(duplex=False)
        cores = self._free.popleft()
        log = self._logs / f"{run.folder.name}.log"
        process = context.Process(target=work, args=(run.config, run.folder, log, cores, there), name=run.folder.name)
        process.start()
        # Only the run's process holds the other end from here on, so that its end is seen.
        there.close()
        self._jobs[here] = _Job(run, process, cores, log)
        self._watcher.begun(run)

    def _hear(self, notes: Connection) -> None:
        job = self._jobs[notes]
        try:
            job.last = notes.recv()
        except EOFError:
            del self._jobs[notes]
            notes.close()
            job.process.join()
            self._free.append(job.cores)
            self._ended(job)
            return
        if job.last is not None and job.last.kind == "begun":
            self.outcome.machine = job.last.machine

    def _ended(self, job: _Job) -> None:
        kind = job.last.kind if job.last is not None else None
        if kind == "finished":
            self.outcome.finished.append(job.run)
            self._watcher.ended(job.run, None)
        elif self.outcome.stopped_by is None or kind == "failed":
            error = job.last.text if job.last is not None and kind == "failed" else _sudden_end(job)
            self.outcome.failed[job.run.folder] = error
            self._watcher.ended(job.run, error)

    def _stop(self, signal_name: str) -> None:
        if self.outcome.stopped_by is None:
            self.outcome.stopped_by = signal_name
            self._waiting.clear()
            self._watcher.stopping(signal_name)
            for job in self._jobs.values():
                job.process.terminate()


def _sudden_end(job: _Job) -> str:
    """Why a run ended that did not say so: the last line of its traceback, or the signal that ended it."""
    code = job.process.exitcode or 0
    if job.last is not None and job.last.kind == "stopped":
        return "it was stopped by a signal from elsewhere"
    if code < 0:
        hint = " (out of memory?)" if -code == signal.SIGKILL else ""
        return f"killed by {signal.Signals(-code).name}{hint}; its output is in {job.log}"
    lines = (
        [line for line in job.log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()] if job.log.is_file() else []
    )
    return f"{lines[-1] if lines else f'exit code {code}'} (the whole traceback is in {job.log})"
