"""A pool of workers that run untrusted programs."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

from collm.errors import SandboxError
from collm.sandbox.levels import start_worker
from collm.sandbox.records import DEFAULT_LIMITS, Job, Level, Limits, Verdict
from collm.sandbox.worker import Worker


class Sandbox:
    """Runs untrusted programs, as many at once as it has workers; may be used from several threads.

    Workers are processes that are started as they are needed and kept; they end with `close`, with the `with` block, or with
    this process, however that ends. In a fork of this process the sandbox starts workers of its own.
    """

    def __init__(self, level: Level = Level.FULL, workers: int | None = None, *, without: Collection[str] = ()) -> None:
        """Starts the first worker. `workers`: how many at most (default: as many as there are CPUs).

        `without`: mechanisms (`namespaces`, `landlock`, `seccomp`) to do without even where they could be had. Raises
        SandboxError where the level cannot be had on this machine.
        """
        if os.name != "posix":
            raise SandboxError(f"the sandbox needs Linux or another POSIX system, and this is {sys.platform}")
        if workers is not None and workers < 1:
            raise SandboxError(f"a sandbox needs at least one worker, got workers={workers}")
        self.level = level
        self.workers = workers or _cpus()
        self._without = tuple(without)
        self._pool = _Pool(self.workers)
        first, self._mechanisms = start_worker(level, self._without)
        self._enforced = first.enforced
        self._pool.give(first, new=True)
        self._finalizer = weakref.finalize(self, _Pool.close, self._pool)
        _living.add(self)

    @property
    def enforced(self) -> dict[str, bool]:
        """What holds on this machine at this level: the promises of docs/sandbox.md, then the mechanisms they rest on."""
        return dict(self._enforced)

    def run(
        self,
        program: str,
        tests: Sequence[str] = (),
        limits: Limits = DEFAULT_LIMITS,
        *,
        preamble: str = "",
        bind: Mapping[str, str] | None = None,
    ) -> Verdict:
        """Judges one program, and waits for it.

        `tests` are pieces of code, each judged on its own with a fresh copy of the program; a test passes if it raises nothing. They are
        trusted, as is `preamble`, which is executed before each of them (imports, helpers). Both run in a process apart from the program,
        where a name that they do not define themselves stands for the program's function or value of that name, and each key
        of `bind` for the one it names: {"candidate": "sort_third"}. What passes between the two is copied, plain data only.
        Without tests the program is run as `python program.py` would run it.

        Raises SandboxError where a test is not valid Python or the sandbox itself fails.
        """
        return self._run(Job(program, tuple(tests), limits, preamble, bind or {}))

    def run_many(self, jobs: Sequence[Job]) -> list[Verdict]:
        """Judges programs, as many at once as there are workers; verdicts in the order of the jobs. Raises SandboxError."""
        if len(jobs) <= 1:
            return [self._run(job) for job in jobs]
        with ThreadPoolExecutor(min(self.workers, len(jobs))) as threads:
            return list(threads.map(self._run, jobs))

    def close(self) -> None:
        """Ends all workers and waits until they are gone. A sandbox may be closed several times."""
        self._finalizer()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _run(self, job: Job) -> Verdict:
        _check_python(job)
        worker = self._pool.take()
        if worker is None:
            worker = self._start()
        done = False
        try:
            verdict = worker.run(job)
            done = True
        finally:
            if done:
                self._pool.give(worker)
            else:  # an error or an interruption: it may be in the middle of the job
                self._pool.drop()
                worker.close()
        return verdict

    def _start(self) -> Worker:
        started = False
        try:
            worker, _ = start_worker(self.level, self._without)
            started = True
        finally:
            if not started:
                self._pool.drop()
        return worker

    def _after_fork(self) -> None:
        self._pool.forget()
        self._pool = _Pool(self.workers)
        self._finalizer.detach()
        self._finalizer = weakref.finalize(self, _Pool.close, self._pool)


class _Pool:
    """Idle workers, and how many there are altogether."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._changed = threading.Condition()
        self._idle: list[Worker] = []
        self._count = 0
        self._closed = False

    def take(self) -> Worker | None:
        """An idle worker; None where the caller may start one. Waits while there are as many as allowed and all busy."""
        with self._changed:
            while not self._closed:
                if self._idle:
                    return self._idle.pop()
                if self._count < self._most:
                    self._count += 1
                    return None
                self._changed.wait()
        raise SandboxError("this sandbox is closed")

    def give(self, worker: Worker, new: bool = False) -> None:
        with self._changed:
            self._count += new
            if not self._closed:
                self._idle.append(worker)
                self._changed.notify()
                return
        worker.close()

    def drop(self) -> None:
        """One worker fewer."""
        with self._changed:
            self._count -= 1
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            idle, self._idle = self._idle, []
            self._changed.notify_all()
        for worker in idle:
            worker.close()

    def forget(self) -> None:
        for worker in self._idle:
            worker.forget()


def shared_sandbox(level: Level = Level.FULL) -> Sandbox:
    """The sandbox of this process at a level: started at the first call, ended with the process. Raises SandboxError."""
    with _shared_lock:
        sandbox = _shared.get(level)
        if sandbox is None:
            sandbox = _shared[level] = Sandbox(level)
        return sandbox


def _check_python(job: Job) -> None:
    named = [("the preamble", job.preamble), *((f"test {number}", test) for number, test in enumerate(job.tests, start=1))]
    for name, code in named:
        try:
            compile(code, name, "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:
            raise SandboxError(f"{name} is not valid Python: {error}: {code.strip()[:80]!r}") from error


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _forget_in_child() -> None:
    global _shared_lock
    _shared_lock = threading.Lock()
    for sandbox in list(_living):
        sandbox._after_fork()


_living: weakref.WeakSet[Sandbox] = weakref.WeakSet()
_shared: dict[Level, Sandbox] = {}
_shared_lock = threading.Lock()
if os.name == "posix":
    os.register_at_fork(after_in_child=_forget_in_child)
