"""The parent's side of the worker processes that step environments (`step_worker.py`)."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING

from collm.errors import WorkerError
from collm.rollout.outcome import Outcome, placed
from collm.rollout.step_worker import Failure

if TYPE_CHECKING:
    from collm.rollout.branch import Joint

_BOOT = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from collm.rollout.step_worker import main
main(int(sys.argv[2]), int(sys.argv[3]))
"""
_END_SECONDS = 5.0
_MEND = "training.env_workers=0 steps environments in this process"


class StepProcess:
    """One worker. A new interpreter, not a fork of this process and its threads; it imports what the environments need."""

    def __init__(self) -> None:
        """Starts it, without waiting until it is up. Raises WorkerError."""
        self._ours, theirs = Pipe()
        path = [entry or str(Path.cwd()) for entry in sys.path]
        command = [sys.executable, "-c", _BOOT, json.dumps(path), str(theirs.fileno()), str(os.getpid())]
        try:
            # In a session of its own: Ctrl-C is for the parent, which ends its workers.
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True)
        except OSError as error:
            self._ours.close()
            raise WorkerError(f"a worker process cannot be started with {sys.executable}: {error.strerror}; {_MEND}") from error
        finally:
            theirs.close()
        self._pidfd: int | None = None
        if sys.platform == "linux":
            with suppress(OSError):  # an old kernel: then the connection alone tells that it has ended
                self._pidfd = os.pidfd_open(self._process.pid)
        self.busy = False

    def ask(self, request: bytes) -> bytes:
        """Its answer. Raises WorkerError where it ends before."""
        self.busy = True
        try:
            self._ours.send_bytes(request)
            # A process that the environment started may hold the connection open, so the worker itself is watched too.
            wait([self._ours] if self._pidfd is None else [self._ours, self._pidfd])
            if not self._ours.poll():
                raise EOFError
            answer = self._ours.recv_bytes()
        except (EOFError, OSError) as error:
            raise WorkerError(f"the worker process that stepped the environment has ended ({self._end_of_it()}); {_MEND}") from error
        self.busy = False
        return answer

    def hang_up(self) -> None:
        """Let it end: an idle one by itself, one in the middle of a step by force."""
        if self.busy:
            self._process.kill()
        else:
            with suppress(OSError):  # it has ended already
                self._ours.send_bytes(b"")

    def join(self) -> None:
        """Wait for its end after `hang_up`, or after an error."""
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._ours.close()
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None

    def _end_of_it(self) -> str:
        try:
            code = self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return "it closed its connection"
        if code >= 0:
            return f"exit code {code}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        return f"killed by signal {name}" + (", as the kernel does where memory runs out" if -code == signal.SIGKILL else "")


class ProcessPool:
    """Workers, each with a thread of this process that waits for it."""

    def __init__(self, count: int) -> None:
        """Starts them, without waiting until they are up."""
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="env-worker")
        self._own = threading.local()
        self._lock = threading.Lock()
        self._processes: list[StepProcess] = []
        self._closing = False
        # The kernel ends a worker together with the thread that started it, so each is started by the thread that uses it.
        everyone = threading.Barrier(count)
        for _ in range(count):
            self._threads.submit(self._warm, everyone)  # what fails here fails again, to be seen, in the first step

    def submit(self, joint: Joint, keep_cut: bool) -> Future[Outcome]:
        """The outcome of a step to come; errors name episode and turn."""
        return self._threads.submit(self._step, joint, keep_cut)

    def close(self) -> None:
        """End all workers, in the middle of whatever they do, and wait until they are gone."""
        with self._lock:
            self._closing = True
            processes = list(self._processes)
        for process in processes:
            process.hang_up()
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.join()
        self._threads.shutdown()

    def _warm(self, everyone: threading.Barrier) -> None:
        everyone.wait()
        self._process()

    def _step(self, joint: Joint, keep_cut: bool) -> Outcome:
        with placed(joint.where, "step"):
            request = _packed(joint, keep_cut)
            process = self._process()
            try:
                answer = process.ask(request)
            except WorkerError:
                self._drop(process)
                raise
            return _outcome(answer)

    def _process(self) -> StepProcess:
        """This thread's worker; a new one where it has none, or has lost it."""
        with self._lock:
            if self._closing:
                raise WorkerError("the worker processes were ended before this step")
            if "process" not in vars(self._own):
                self._own.process = StepProcess()
                self._processes.append(self._own.process)
            return self._own.process

    def _drop(self, process: StepProcess) -> None:
        with self._lock:
            if self._closing:
                return  # it is being joined
            self._processes.remove(process)
        del self._own.process
        process.join()


def _packed(joint: Joint, keep_cut: bool) -> bytes:
    try:
        return pickle.dumps((joint.env, joint.texts, keep_cut), pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        name = type(joint.env).__qualname__
        raise WorkerError(f"{name} cannot be pickled and sent to a worker process: {error}; {_MEND}") from error


def _outcome(answer: bytes) -> Outcome:
    found: Outcome | Failure = pickle.loads(answer)
    if isinstance(found, Outcome):
        return found
    where = f"In the worker process:\n{found.trace.rstrip()}"
    match found.doing:
        case "unpickle":
            raise WorkerError(f"the environment cannot be unpickled in a worker process: {found.said}; {_MEND}\n{where}")
        case "pickle":
            raise WorkerError(f"the environment cannot be pickled after its step: {found.said}; {_MEND}\n{where}")
    if found.error is None:
        raise WorkerError(f"the environment raised {found.said}\n{where}")
    error: Exception = pickle.loads(found.error)
    error.add_note(where)
    raise error
