"""The trusted process that takes jobs from the parent and makes verdicts of trials."""

from __future__ import annotations

import math
import os
import signal
import socket
from dataclasses import replace
from typing import Any, NoReturn

from .confine import Bounds
from .evaluator import make_task
from .evaluators import TESTS_AT_MOST, Evaluator
from .frames import receive_json, send_json
from .scratch import Scratch
from .trial import Outcome, Site, run_trial

Result = tuple[str, str, float]
"""Of one test: status, error, seconds."""

_NOT_RUN: Result = ("not_run", "not run: too many time-outs before it", 0.0)
_STATUS_OF_TESTS = {"load_timeout": "timeout", "memory": "memory", "crashed": "crashed", "syntax_error": "error", "load_error": "error"}


class Keeper:
    """Runs jobs one after the other."""

    def __init__(self, site: Site, scratch: Scratch | None) -> None:
        self._site = site
        self._scratch = scratch

    def serve(self, control: socket.socket) -> NoReturn:
        """Answers jobs until the parent goes away. Raises EOFError or ParentGoneError then."""
        while True:
            self._site.wait_for_job(control.fileno())
            send_json(control, self.run(receive_json(control)))

    def run(self, job: dict[str, Any]) -> dict[str, Any]:
        """The verdict on a job, as plain data: status, error, results, seconds, output."""
        tests: list[str] = job["tests"]
        trials = _Trials(self._site, self._scratch, job)
        try:
            first = trials.next()
            seconds, status, error, results = first.load_seconds + first.seconds, "ok", "", list[Result]()
            if not first.loaded:
                status, error = _ending(first, job)
                results = [(_STATUS_OF_TESTS[status], error, 0.0) for _ in tests]
            elif tests:
                results.append(_result(first, job))
            while len(results) < len(tests):
                if _too_many_timeouts(results, job):
                    results.append(_NOT_RUN)
                    continue
                outcome = trials.next()
                seconds += outcome.load_seconds + outcome.seconds
                results.append(_result(outcome, job))
        finally:
            trials.close()
        output = first.output.decode("utf-8", "replace")
        return {"status": status, "error": error, "results": results, "seconds": seconds, "output": output}


class _Trials:
    """The trials of a job in the order of its tests, with one evaluator for as long as it serves."""

    def __init__(self, site: Site, scratch: Scratch | None, job: dict[str, Any]) -> None:
        limits = job["limits"]
        self._site = site
        self._scratch = scratch
        self._seconds: float = limits["seconds"]
        self._output_bytes: int = limits["output_kb"] << 10
        self._bounds = Bounds(
            memory_bytes=limits["memory_mb"] << 20,
            cpu_seconds=math.ceil(2 * self._seconds) + 1,  # only for the case that the clock here stands still
            file_bytes=limits["file_kb"] << 10,
        )
        self._task = make_task(job["program"], job["preamble"], job["tests"], job["bind"])
        self._evaluator: Evaluator | None = None
        self._count = 0

    def next(self) -> Outcome:
        """Does the next test, or runs the program where there are none."""
        if self._evaluator is None:
            some = self._task.tests[self._count : self._count + TESTS_AT_MOST]
            self._evaluator = Evaluator(self._site.means, replace(self._task, tests=some), self._bounds)
        self._count += 1
        directory = self._scratch.fresh() if self._scratch else ""
        alone = not self._task.tests
        try:
            outcome = run_trial(self._site, self._evaluator, alone, self._bounds, self._seconds, directory, self._output_bytes)
        finally:
            if self._scratch:
                self._scratch.empty()
        if self._evaluator.done or not _ended_well(outcome):
            self.close()
        return outcome

    def close(self) -> None:
        if self._evaluator is not None:
            self._evaluator.close()
            self._evaluator = None


def _ended_well(outcome: Outcome) -> bool:
    """Whether the evaluator is as good as new after a test."""
    return outcome.report is not None and outcome.report["event"] == "judged" and outcome.report["status"] != "memory"


def _too_many_timeouts(results: list[Result], job: dict[str, Any]) -> bool:
    most = job["limits"]["max_timeouts"]
    return most is not None and sum(status == "timeout" for status, _, _ in results) >= most


def _result(outcome: Outcome, job: dict[str, Any]) -> Result:
    report = outcome.report
    if not outcome.loaded:
        status, error = _ending(outcome, job)
        return _STATUS_OF_TESTS[status], error, 0.0
    if outcome.timed_out:
        return "timeout", f"no result after {job['limits']['seconds']:g} s", outcome.seconds
    if report is None:
        return "error", "the evaluator ended without a result", outcome.seconds
    if report["event"] == "gone":
        return "crashed", report["error"] or f"the program ended before it answered: {_how(outcome)}", outcome.seconds
    return report["status"], report["error"], outcome.seconds


def _ending(outcome: Outcome, job: dict[str, Any]) -> tuple[str, str]:
    """Status and error of a program that was run alone, or that was not loaded."""
    report = outcome.report
    if outcome.timed_out:
        return "load_timeout", f"still running after {job['limits']['seconds']:g} s"
    if report is not None and report["event"] == "not_loaded":
        return report["status"], report["error"]
    if report is not None and report["error"]:
        return "crashed", report["error"]
    if job["tests"]:
        return "crashed", f"the program ended while it was loaded: {_how(outcome)}"
    code = _exit_code(outcome)
    if code == 0:
        return "ok", ""
    return "exited" if code > 0 else "crashed", _how(outcome)


def _how(outcome: Outcome) -> str:
    code = _exit_code(outcome)
    if code >= 0:
        return f"exit code {code}"
    return f"killed by signal {-code} ({signal.Signals(-code).name})" if -code in set(signal.Signals) else f"killed by signal {-code}"


def _exit_code(outcome: Outcome) -> int:
    """The exit code of a process that has ended, negative for a signal."""
    if outcome.wait_status is None:
        raise AssertionError("asked how a process ended that has not")
    return os.waitstatus_to_exitcode(outcome.wait_status)
