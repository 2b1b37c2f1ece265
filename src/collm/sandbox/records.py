"""What goes into the sandbox and what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from collm.errors import SandboxError

_DAY = 86400


class Level(StrEnum):
    """How strong the isolation has to be. A machine that offers more than the level asks for gives more.

    - FULL: namespaces (private root, no network, no view of other processes), system call filter, Landlock where the
      kernel has it, resource limits. Everything that docs/sandbox.md promises holds.
    - FILTERED: for machines that refuse namespaces, such as most containers: system call filter, Landlock, resource limits.
      Programs cannot write files at all; they can find out which paths exist.
    - RLIMITS: for machines that offer nothing else, such as macOS: resource limits, a session and an empty directory of its own,
      no environment. The network and every file and process that the user can reach are open to the program.
    """

    FULL = "full"
    FILTERED = "filtered"
    RLIMITS = "rlimits"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may use. Raises SandboxError where a limit makes no sense.

    `seconds` is wall-clock time, for loading the program and again for each test. `memory_mb` bounds the address space of the
    program's process, in MiB, the interpreter's own 30 included; the evaluator of a test has as much again. `output_kb`
    KiB of standard output and error are kept, the rest is discarded. `file_kb` KiB may be written to files. After
    `max_timeouts` time-outs (None: no such limit) the remaining tests are not run and count as failed.
    """

    seconds: float = 8.0
    memory_mb: int = 512
    output_kb: int = 64
    file_kb: int = 1024
    max_timeouts: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.seconds <= _DAY:  # false for NaN too
            raise SandboxError(f"sandbox limit seconds: expected a number above 0 and at most {_DAY} (a day), got {self.seconds!r}")
        _between("memory_mb", self.memory_mb, 64, 1 << 20)
        _between("output_kb", self.output_kb, 0, 1 << 20)
        _between("file_kb", self.file_kb, 4, 1 << 30)
        if self.max_timeouts is not None:
            _between("max_timeouts", self.max_timeouts, 1, 1 << 30)


def _between(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise SandboxError(f"sandbox limit {name}: expected {least} to {most}, got {value!r}")


DEFAULT_LIMITS = Limits()


class TestStatus(StrEnum):
    """What came of one test."""

    __test__ = False  # not one of pytest's

    PASSED = "passed"
    FAILED = "failed"  # an assert of the test did not hold
    ERROR = "error"  # the program or the test raised something else
    TIMEOUT = "timeout"
    MEMORY = "memory"
    CRASHED = "crashed"  # the program's process ended before it answered
    NOT_RUN = "not_run"  # too many time-outs before it


class ProgramStatus(StrEnum):
    """What came of the program itself."""

    OK = "ok"  # loaded, or run to its end
    SYNTAX_ERROR = "syntax_error"
    LOAD_ERROR = "load_error"  # raised an exception
    LOAD_TIMEOUT = "load_timeout"
    MEMORY = "memory"
    EXITED = "exited"  # without tests: ended with an exit code other than 0
    CRASHED = "crashed"  # killed by a signal, or ended while it was to be loaded


@dataclass(frozen=True, slots=True)
class TestResult:
    """What came of one test. `error` is empty for a passed one, else one line such as `NameError: name 'x' is not defined`.

    `seconds` is wall-clock time without the loading of the program.
    """

    __test__ = False

    passed: bool
    status: TestStatus
    error: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a program: its own status, one result per test in their order, all seconds spent.

    `error` is one line, empty for status OK. `output` is what the program wrote to standard output and error while it was loaded
    and in the first test, cut off at the limit.
    """

    status: ProgramStatus
    error: str
    results: tuple[TestResult, ...]
    seconds: float
    output: str

    @property
    def passed(self) -> int:
        """The number of tests passed."""
        return sum(result.passed for result in self.results)

    @property
    def all_passed(self) -> bool:
        """Whether there were tests and all of them passed."""
        return bool(self.results) and self.passed == len(self.results)


@dataclass(frozen=True, slots=True)
class Job:
    """A program and its tests; see `Sandbox.run` for the fields."""

    program: str
    tests: tuple[str, ...] = ()
    limits: Limits = DEFAULT_LIMITS
    preamble: str = ""
    bind: Mapping[str, str] = field(default_factory=dict)
