"""One run of a program, with one test or none: a program process, the evaluator, and a clock."""

from __future__ import annotations

import json
import os
import select
import socket
import time
from dataclasses import asdict, dataclass
from typing import Any

from .confine import Bounds, Means
from .evaluators import Evaluator
from .frames import receive_frame, receive_json
from .libc import MechanismError
from .zygote import send_request

_MAX_REPORT_BYTES = 1 << 16
_READ_BYTES = 1 << 16


class ParentGoneError(Exception):
    """The process that the keeper works for has ended or closed the sandbox."""


@dataclass(frozen=True, slots=True)
class Site:
    """What trials share: what the machine gives, the zygote, and the descriptors that become readable when the parent ends."""

    means: Means
    zygote: socket.socket
    parent_fds: tuple[int, ...]

    def wait_for_job(self, control_fd: int) -> None:
        """Waits until the parent says something. Raises ParentGoneError where it has ended."""
        poll = select.poll()
        for fd in self.parent_fds:
            poll.register(fd, select.POLLIN)
        if control_fd not in {fd for fd, _ in poll.poll()}:
            raise ParentGoneError


@dataclass(slots=True)
class Outcome:
    """What came of a trial."""

    loaded: bool = False
    load_seconds: float = 0.0
    seconds: float = 0.0  # of the test; where the program was not loaded or runs alone, since its start
    timed_out: bool = False
    report: dict[str, Any] | None = None  # the evaluator's last word
    wait_status: int | None = None  # how the program process ended by itself
    output: bytes = b""


def run_trial(site: Site, evaluator: Evaluator, alone: bool, bounds: Bounds, seconds: float, directory: str, output_bytes: int) -> Outcome:
    """Does the evaluator's next test, to the end or to a time-out: `seconds` for loading and again for the test.

    Leaves no program process behind. Raises MechanismError where one of the processes could not be confined, and
    ParentGoneError.
    """
    ends = evaluator.next()
    output, output_end = os.pipe()
    fds = [ends.questions, ends.answers, output_end]
    send_request(site.zygote, {"do": "start", "bounds": asdict(bounds), "directory": directory}, fds)
    for fd in fds:
        os.close(fd)
    try:
        started = receive_json(site.zygote)
        if started["event"] != "started":
            raise MechanismError("confinement", started["error"])
        watch = _Watch(site, alone, evaluator.reports, output, output_bytes, seconds)
        try:
            watch.wait()
        finally:
            watch.end_program()
    finally:
        os.close(output)
    report = watch.outcome.report
    if report is not None and report["event"] == "unconfined":
        raise MechanismError("confinement", report["error"])
    return watch.outcome


class _Watch:
    """Waits for the first of: a verdict, the program's end, the time limit, the parent's end. Collects output meanwhile."""

    def __init__(self, site: Site, alone: bool, reports: int, output: int, output_bytes: int, seconds: float) -> None:
        self.outcome = Outcome()
        self._site = site
        self._alone = alone
        self._reports = reports
        self._output = output
        self._output_bytes = output_bytes
        self._seconds = seconds
        self._started = time.monotonic()
        self._evaluating = True
        self._poll = select.poll()
        for fd in (reports, output, site.zygote.fileno(), *site.parent_fds):
            self._poll.register(fd, select.POLLIN)

    def wait(self) -> None:
        while not self._finished():
            left = self._started + self._seconds - time.monotonic()
            for fd, _ in self._poll.poll(max(0.0, left) * 1000):
                self._handle(fd)
            # Also where there always is something to read: a program that floods its output does not live longer.
            if left <= 0 and not self._finished():
                self.outcome.timed_out = True
                break
        self.outcome.seconds = time.monotonic() - self._started

    def _finished(self) -> bool:
        report = self.outcome.report
        ended = self.outcome.wait_status is not None
        if report is not None and report["event"] in ("judged", "not_loaded", "unconfined") and not self._alone:
            return True
        return ended and (report is not None or not self._evaluating)

    def _handle(self, fd: int) -> None:
        if fd == self._output:
            self._read_output()
        elif fd == self._reports:
            self._read_report()
        elif fd == self._site.zygote.fileno():
            self.outcome.wait_status = receive_json(self._site.zygote)["status"]
        else:
            raise ParentGoneError

    def _read_output(self) -> None:
        piece = os.read(self._output, _READ_BYTES)
        if not piece:
            self._poll.unregister(self._output)
        room = self._output_bytes - len(self.outcome.output)
        self.outcome.output += piece[:room]

    def _read_report(self) -> None:
        try:
            report = json.loads(receive_frame(self._reports, _MAX_REPORT_BYTES))
        except EOFError:
            self._evaluating = False
            self._poll.unregister(self._reports)
            return
        if report["event"] != "loaded":
            self.outcome.report = report
        else:
            now = time.monotonic()
            self.outcome.loaded = True
            self.outcome.load_seconds = now - self._started
            self._started = now

    def end_program(self) -> None:
        """Ends the program's process, where it has not ended, and takes what output is left in the pipe."""
        if self.outcome.wait_status is None:
            send_request(self._site.zygote, {"do": "kill"}, [])
            receive_json(self._site.zygote)
        os.set_blocking(self._output, False)
        try:
            while len(self.outcome.output) < self._output_bytes and (piece := os.read(self._output, _READ_BYTES)):
                self.outcome.output += piece[: self._output_bytes - len(self.outcome.output)]
        except BlockingIOError:  # somebody still holds the other end, where the level allows a program to make processes
            return
