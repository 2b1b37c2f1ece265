"""The parent's side of one keeper process: its start, one job at a time, its end."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from collm.errors import SandboxError
from collm.sandbox.jail.frames import receive_json, send_json
from collm.sandbox.records import Job, ProgramStatus, TestResult, TestStatus, Verdict

_START_SECONDS = 120.0
_SLACK_SECONDS = 120.0
_END_SECONDS = 10.0
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}  # the same order of sets in every run
_BOOT = """
import sys
library = [path for path in sys.path if path]
sys.path.append(sys.argv[1])
from jail.main import main
sys.path.remove(sys.argv[1])
import os
main(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:], [path for path in library if os.path.isdir(path)])
"""


class UnavailableError(Exception):
    """A mechanism that this machine does not give, and what the system said."""

    def __init__(self, mechanism: str, reason: str) -> None:
        super().__init__(f"{mechanism}: {reason}")
        self.mechanism = mechanism
        self.reason = reason


class Worker:
    """One keeper. Not safe for several threads at once."""

    def __init__(self, mechanisms: tuple[str, ...]) -> None:
        """Starts it and waits until it has rehearsed. Raises UnavailableError or SandboxError."""
        ours, theirs = socket.socketpair()
        # -P -s -S: nothing but the standard library; the environment is replaced as a whole, so -E is not needed.
        command = [sys.executable, "-P", "-s", "-S", "-B", "-X", "utf8", "-c", _BOOT, str(Path(__file__).parent)]
        command += [str(theirs.fileno()), str(os.getpid()), *mechanisms]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd="/",
                env=_ENVIRONMENT,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            raise SandboxError(f"the sandbox cannot start {sys.executable}: {error.strerror}") from error
        finally:
            theirs.close()
        self._socket = ours
        self._scratch: str | None = None
        started = False
        try:
            message = self._receive(_START_SECONDS)
            if message["event"] == "failed":
                raise UnavailableError(message["mechanism"], message["reason"])
            self.enforced: dict[str, bool] = message["enforced"]
            self._scratch = message["scratch"]
            started = True
        finally:
            if not started:
                self.close()

    def run(self, job: Job) -> Verdict:
        """Runs one job. Raises SandboxError where the keeper fails, after which only `close` makes sense."""
        message = {
            "program": job.program,
            "tests": list(job.tests),
            "preamble": job.preamble,
            "bind": dict(job.bind),
            "limits": asdict(job.limits),
        }
        try:
            send_json(self._socket, message)
        except OSError as error:
            raise SandboxError(f"a process of the sandbox has ended unexpectedly: {error.strerror}") from error
        answer = self._receive(_SLACK_SECONDS + 4 * job.limits.seconds * (len(job.tests) + 1))
        if "event" in answer:
            raise SandboxError(f"the sandbox could not confine a program: {answer['mechanism']}: {answer['reason']}")
        return Verdict(
            status=ProgramStatus(answer["status"]),
            error=answer["error"],
            results=tuple(_result(*result) for result in answer["results"]),
            seconds=answer["seconds"],
            output=answer["output"],
        )

    def close(self) -> None:
        """Ends the keeper and all its processes, in the middle of whatever they do, and waits until they are gone."""
        with suppress(OSError):  # already closed, or the keeper has ended
            self._socket.shutdown(socket.SHUT_RDWR)  # reaches the keeper even while a fork of this process has the socket too
        self._socket.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)  # the keeper has done it, unless it was killed

    def forget(self) -> None:
        """In a fork of the process that started it: lets go of the keeper, which goes on working for that process."""
        self._socket.close()
        self._process.returncode = 0  # not this process's child: nothing to wait for

    def _receive(self, seconds: float) -> dict[str, Any]:
        self._socket.settimeout(seconds)
        try:
            return receive_json(self._socket)
        except EOFError:
            code = self._process.wait()
            raise SandboxError(f"a process of the sandbox has ended unexpectedly (exit code {code})") from None
        except TimeoutError:
            raise SandboxError(f"a process of the sandbox gives no answer after {seconds:g} s") from None
        except OSError as error:
            raise SandboxError(f"a process of the sandbox cannot be reached: {error.strerror}") from error


def _result(status: str, error: str, seconds: float) -> TestResult:
    return TestResult(passed=status == TestStatus.PASSED, status=TestStatus(status), error=error, seconds=seconds)
