"""The keeper's side of an evaluator process, which judges the tests of one program one after the other."""

from __future__ import annotations

import json
import os
import signal
from collections import deque
from dataclasses import dataclass
from typing import NoReturn

from .confine import Bounds, Means, confine
from .evaluator import Task, evaluate
from .frames import send_frame
from .libc import MechanismError
from .proxies import Channel

TESTS_AT_MOST = 16
"""Of one evaluator: it has two pipes for each."""


@dataclass(slots=True)
class ProgramEnds:
    """The program's ends of the two pipes of one test."""

    questions: int
    answers: int


class Evaluator:
    """One evaluator process. It does a test when it is told to, and is discarded after one that did not end well."""

    def __init__(self, means: Means, task: Task, bounds: Bounds) -> None:
        """Forks it. `task` has TESTS_AT_MOST tests at most, `bounds` are those of a single test."""
        count = max(1, len(task.tests))
        orders, self._orders_end = os.pipe()
        self.reports, reports_end = os.pipe()
        channels: list[tuple[int, int]] = []
        self._waiting: deque[ProgramEnds] = deque()
        for _ in range(count):
            questions, questions_end = os.pipe()
            answers, answers_end = os.pipe()
            channels.append((questions_end, answers))
            self._waiting.append(ProgramEnds(questions, answers_end))
        theirs = [orders, reports_end, *(fd for pair in channels for fd in pair)]
        self._pid = os.fork()
        if self._pid == 0:
            try:
                _become_evaluator(means, bounds, count, theirs, reports_end)
                _serve(task, orders, reports_end, channels)
            finally:
                os._exit(121)
        for fd in theirs:
            os.close(fd)

    @property
    def done(self) -> bool:
        """Whether it has been told to do all of its tests."""
        return not self._waiting

    def next(self) -> ProgramEnds:
        """Tells it to do the next test. The pipe ends are the caller's to hand on and to close."""
        os.write(self._orders_end, b"!")
        return self._waiting.popleft()

    def close(self) -> None:
        """Ends it, whatever it does."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._orders_end)
        os.close(self.reports)
        for ends in self._waiting:
            os.close(ends.questions)
            os.close(ends.answers)


def _become_evaluator(means: Means, bounds: Bounds, count: int, keep: list[int], reports_end: int) -> None:
    """In the fork: everything is given up before the first byte from a program is read."""
    null = os.open("/dev/null", os.O_RDWR)
    for target in (0, 1, 2):
        os.dup2(null, target)
    first = 3
    for fd in sorted(keep):
        os.closerange(first, fd)
        first = fd + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))
    os.setsid()
    tight = Bounds(memory_bytes=bounds.memory_bytes, cpu_seconds=bounds.cpu_seconds * count, file_bytes=0)
    try:
        confine(means, tight, None, writable=())
    except MechanismError as error:
        send_frame(reports_end, json.dumps({"event": "unconfined", "error": error.reason}).encode("ascii"))
        os._exit(121)


def _serve(task: Task, orders: int, reports_end: int, channels: list[tuple[int, int]]) -> NoReturn:
    for number, (questions_end, answers) in enumerate(channels):
        if not os.read(orders, 1):
            os._exit(0)
        report = evaluate(task, number, Channel(questions_end, answers), reports_end)
        # The program sees the end of its questions before the keeper sees the report.
        os.close(questions_end)
        os.close(answers)
        send_frame(reports_end, json.dumps(report).encode("ascii"))
    os._exit(0)
