"""One run of a program, with one test or none: a program process, an evaluator process, and a clock."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

from .confine import Bounds, Means, confine
from .evaluator import Task, evaluate
from .frames import receive_frame, receive_json, send_frame
from .libc import MechanismError
from .proxies import Channel
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


def run_trial(site: Site, task: Task, bounds: Bounds, seconds: float, directory: str, output_bytes: int) -> Outcome:
    """Runs to the end or to a time-out: `seconds` for loading and again for the test. Leaves no process behind.

    Raises MechanismError where one of the processes could not be confined, and ParentGoneError.
    """
    questions, questions_end = os.pipe()
    answers, answers_end = os.pipe()
    output, output_end = os.pipe()
    reports, reports_end = os.pipe()
    send_request(site.zygote, {"do": "start", "bounds": asdict(bounds), "directory": directory}, [questions, answers_end, output_end])
    for fd in (questions, answers_end, output_end):
        os.close(fd)
    started = receive_json(site.zygote)
    evaluator = 0
    if started["event"] == "started":
        evaluator = os.fork()
        if evaluator == 0:
            try:
                keep = {questions_end, answers, reports_end}
                _become_evaluator(site, task, bounds, keep, Channel(questions_end, answers), reports_end)
            finally:
                os._exit(121)
    for fd in (questions_end, answers, reports_end):
        os.close(fd)
    watch = _Watch(site, task.test is None, reports, output, output_bytes, seconds)
    try:
        if started["event"] != "started":
            raise MechanismError("confinement", started["error"])
        watch.wait()
        if watch.outcome.report is not None and watch.outcome.report["event"] == "unconfined":
            raise MechanismError("confinement", watch.outcome.report["error"])
    finally:
        if evaluator:
            watch.end_processes(evaluator)
        os.close(reports)
        os.close(output)
    return watch.outcome


def _become_evaluator(site: Site, task: Task, bounds: Bounds, keep: set[int], channel: Channel, reports_end: int) -> NoReturn:
    null = os.open("/dev/null", os.O_RDWR)
    for target in (0, 1, 2):
        os.dup2(null, target)
    first = 3
    for fd in sorted(keep):
        os.closerange(first, fd)
        first = fd + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))
    os.setsid()
    tight = Bounds(memory_bytes=bounds.memory_bytes, cpu_seconds=bounds.cpu_seconds, file_bytes=0)
    try:
        confine(site.means, tight, None, writable=())
    except MechanismError as error:
        send_frame(reports_end, json.dumps({"event": "unconfined", "error": error.reason}).encode("ascii"))
        os._exit(121)
    evaluate(task, channel, reports_end)


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
            events = self._poll.poll(max(0.0, left) * 1000)
            if not events and left <= 0:
                self.outcome.timed_out = True
                break
            for fd, _ in events:
                self._handle(fd)
        self.outcome.seconds = time.monotonic() - self._started

    def _finished(self) -> bool:
        report = self.outcome.report
        ended = self.outcome.wait_status is not None
        if self._alone:
            return ended and not self._evaluating
        if report is not None and report["event"] in ("judged", "not_loaded", "unconfined"):
            return True
        return ended and not self._evaluating

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
        elif not self._alone:
            now = time.monotonic()
            self.outcome.loaded = True
            self.outcome.load_seconds = now - self._started
            self._started = now

    def end_processes(self, evaluator: int) -> None:
        """Ends both processes, where they have not ended, and takes what output is left in the pipe."""
        os.kill(evaluator, signal.SIGKILL)
        os.waitpid(evaluator, 0)
        if self.outcome.wait_status is None:
            send_request(self._site.zygote, {"do": "kill"}, [])
            receive_json(self._site.zygote)
        os.set_blocking(self._output, False)
        try:
            while len(self.outcome.output) < self._output_bytes and (piece := os.read(self._output, _READ_BYTES)):
                self.outcome.output += piece[: self._output_bytes - len(self.outcome.output)]
        except BlockingIOError:  # somebody still holds the other end, where the level allows a program to make processes
            return
