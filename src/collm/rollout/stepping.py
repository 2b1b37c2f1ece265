"""Steps environments while the models go on generating: at once, in threads, or in worker processes.

Which of the three is decided once for a class of environments (`collm.envs.base`: `worker_steps`, `concurrent_steps`) and
makes no difference to what comes out: an environment is sent to a worker whole, and comes back whole.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from enum import Enum
from types import TracebackType

from collm.envs.base import ConcurrentSteps, TextEnv, WorkerSteps
from collm.errors import WorkerError
from collm.rollout.branch import Joint, act
from collm.rollout.outcome import Outcome
from collm.rollout.step_process import ProcessPool

STEP_THREADS = 32
"""Environments that wait for something outside this process and are stepped at the same time."""
MOST_AUTOMATIC = 8
"""Workers take some 50 MB each, so that a large machine is not filled with them unasked."""


class Way(Enum):
    """Where an environment is stepped."""

    INLINE = "inline"
    THREADS = "threads"
    PROCESSES = "processes"


class Stepper:
    """Steps environments. May be used for many rollouts, from one thread at a time; `close` or the `with` block ends it."""

    def __init__(self, workers: int | None = None) -> None:
        """`workers`: as `training.env_workers`. Nothing is started before it is needed."""
        self._wanted = workers
        self._ways: dict[type, Way] = {}
        self._threads: ThreadPoolExecutor | None = None
        self._processes: ProcessPool | None = None
        self._closed = False

    @property
    def immediate(self) -> bool:
        """Whether all outcomes so far were there at once."""
        return all(way is Way.INLINE for way in self._ways.values())

    def prepare(self, env: TextEnv) -> Way:
        """Start what environments of this class will need, without waiting for it. Says how they are going to be stepped."""
        if self._closed:
            raise WorkerError("environments were to be stepped after their stepper was closed")
        kind = type(env)
        if kind not in self._ways:
            self._ways[kind] = way_of(env, self._wanted)
        way = self._ways[kind]
        if way is Way.THREADS and self._threads is None:
            self._threads = ThreadPoolExecutor(STEP_THREADS, thread_name_prefix="env-step")
        if way is Way.PROCESSES and self._processes is None:
            self._processes = ProcessPool(automatic_workers() if self._wanted is None else self._wanted)
        return way

    def submit(self, joints: Sequence[Joint], keep_cut: bool) -> list[Future[Outcome]]:
        """Step the environments of joint actions; outcomes in their order.

        Errors name episode and turn, and leave from `result()`; those of an environment that is stepped at once from here.
        The environment after the step is the outcome's: that of the joint action stays behind where a process has stepped it.
        """
        return [self._start(joint, keep_cut) for joint in joints]

    def close(self) -> None:
        """End all threads and processes; steps that have not begun are given up, those in processes are broken off."""
        self._closed = True
        if self._processes is not None:
            self._processes.close()
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)

    def __enter__(self) -> Stepper:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _start(self, joint: Joint, keep_cut: bool) -> Future[Outcome]:
        way = self.prepare(joint.env)
        if way is Way.PROCESSES and self._processes is not None:
            return self._processes.submit(joint, keep_cut)
        if way is Way.THREADS and self._threads is not None:
            return self._threads.submit(act, joint, keep_cut)
        done: Future[Outcome] = Future()
        done.set_result(act(joint, keep_cut))
        return done


def way_of(env: TextEnv, workers: int | None) -> Way:
    """How an environment is stepped. `workers`: None goes by what its class declares and by the cores, 0 rules processes out,
    any other number asks for them.

    Raises WorkerError where processes are asked for by number and the class cannot be found from one.
    """
    declared = env.worker_steps if isinstance(env, WorkerSteps) else None
    asked = bool(workers) and declared is not False
    if asked or (workers is None and declared and automatic_workers() > 0 and _importable(env)):
        if not _importable(env):
            raise WorkerError(
                f"training.env_workers: {type(env).__qualname__} is defined in the script that was started, where worker processes "
                "cannot find it; move it to a module that the script imports, or set training.env_workers=0"
            )
        return Way.PROCESSES
    return Way.THREADS if isinstance(env, ConcurrentSteps) and env.concurrent_steps else Way.INLINE


def automatic_workers() -> int:
    """A core is left for the models; on a single core workers would gain nothing."""
    if os.name != "posix":
        return 0
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return min(cores - 1, MOST_AUTOMATIC)


def _importable(env: TextEnv) -> bool:
    return type(env).__module__ != "__main__"
