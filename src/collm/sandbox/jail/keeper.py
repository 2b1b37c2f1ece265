"""The trusted process that takes jobs from the parent and makes verdicts of trials."""

from __future__ import annotations

import math
import os
import signal
import socket
from typing import Any, NoReturn

from .confine import Bounds
from .evaluator import make_task
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
        first = self._trial(job, tests[0] if tests else None)
        seconds, status, error, results = first.load_seconds + first.seconds, "ok", "", list[Result]()
        if not first.loaded:
            status, error = _ending(first, job)
            results = [(_STATUS_OF_TESTS[status], error, 0.0) for _ in tests]
        elif tests:
            results.append(_result(first, job))
            for test in tests[1:]:
                if _too_many_timeouts(results, job):
                    results.append(_NOT_RUN)
                    continue
                outcome = self._trial(job, test)
                seconds += outcome.load_seconds + outcome.seconds
                results.append(_result(outcome, job))
        output = first.output.decode("utf-8", "replace")
        return {"status": status, "error": error, "results": results, "seconds": seconds, "output": output}

    def _trial(self, job: dict[str, Any], test: str | None) -> Outcome:
        limits = job["limits"]
        bounds = Bounds(
            memory_bytes=limits["memory_mb"] << 20,
            cpu_seconds=math.ceil(2 * limits["seconds"]) + 1,  # only for the case that the clock here stands still
            file_bytes=limits["file_kb"] << 10,
        )
        task = make_task(job["program"], job["preamble"], test, job["bind"])
        directory = self._scratch.fresh() if self._scratch else ""
        try:
            return run_trial(self._site, task, bounds, limits["seconds"], directory, limits["output_kb"] << 10)
        finally:
            if self._scratch:
                self._scratch.empty()


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
