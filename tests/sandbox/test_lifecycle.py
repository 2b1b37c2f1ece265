"""Workers come and go: threads, forks, interruptions, and ends of every kind leave no process behind."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading

import pytest
from sandbox.launch import HERE, launch
from sandbox.processes import alive, descendants, wait_until

from collm.sandbox import Job, Limits, Sandbox, SandboxError, shared_sandbox

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")

INC = "def inc(x):\n    return x + 1\n"
TESTS = ["assert inc(1) == 2"]
ENDLESS = "while True: pass"


def started_by(box: Sandbox) -> list[int]:
    """The processes of a sandbox that is idle."""
    keepers = [worker._process.pid for worker in box._pool._idle]
    return [*keepers, *(pid for keeper in keepers for pid in descendants(keeper))]


def test_close_ends_everything(box):
    own = Sandbox(workers=2)
    own.run_many([Job(INC, tuple(TESTS))] * 6)
    pids = started_by(own)
    assert len(pids) >= 2
    own.close()
    assert alive(pids) == []
    own.close()
    with pytest.raises(SandboxError, match="closed"):
        own.run(INC, TESTS)


def test_a_forgotten_sandbox_ends_its_processes(box):
    own = Sandbox(workers=1)
    pids = started_by(own)
    del own
    gc.collect()
    assert alive(pids) == []


def test_several_threads_share_one_sandbox():
    passed = []

    def work(number: int) -> None:
        for _ in range(4):
            verdict = own.run(f"def f(): return {number}", [f"assert f() == {number}", "assert f() < 0"])
            passed.append([result.passed for result in verdict.results])

    with Sandbox(workers=2) as own:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert passed == [[True, False]] * 20
        assert len(own._pool._idle) == own._pool._count <= 2


def test_a_worker_outlives_the_thread_that_started_it():
    own: list[Sandbox] = []
    thread = threading.Thread(target=lambda: own.append(Sandbox(workers=1)))
    thread.start()
    thread.join()
    with own[0]:
        assert own[0].run(INC, TESTS).all_passed


def test_an_interrupted_run_leaves_no_half_done_worker():
    class Interruption(Exception):
        pass

    def interrupt(number, frame):
        raise Interruption

    with Sandbox(workers=1) as own:
        pids = started_by(own)
        before = signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        try:
            with pytest.raises(Interruption):
                own.run(ENDLESS, (), Limits(seconds=60.0))
        finally:
            signal.signal(signal.SIGALRM, before)
        assert alive(pids) == []
        assert own.run(INC, TESTS).all_passed


def test_a_killed_keeper_is_told_and_replaced():
    with Sandbox(workers=1) as own:
        keeper, *below = started_by(own)
        os.kill(keeper, signal.SIGKILL)
        assert wait_until(lambda: not alive([keeper, *below]))
        with pytest.raises(SandboxError, match="ended unexpectedly"):
            own.run(INC, TESTS)
        assert own.run(INC, TESTS).all_passed


def test_a_killed_zygote_is_told_and_replaced():
    with Sandbox(workers=1) as own:
        keeper, zygote = started_by(own)
        os.kill(zygote, signal.SIGKILL)
        with pytest.raises(SandboxError):
            own.run(INC, TESTS)
        assert alive([keeper, zygote]) == []
        assert own.run(INC, TESTS).all_passed


def test_a_fork_has_workers_of_its_own(box):
    own = Sandbox(workers=1)
    pids = started_by(own)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            right = own.run(INC, TESTS).all_passed and not set(started_by(own)) & set(pids)
            own.close()
            code = 0 if right else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert alive(pids) == pids
    assert own.run(INC, TESTS).all_passed
    assert started_by(own) == pids
    own.close()


def test_one_shared_sandbox_per_level():
    assert shared_sandbox() is shared_sandbox()
    assert shared_sandbox().run(INC, TESTS).all_passed


START = """
import os, sys, time
from sandbox.processes import descendants
from collm.sandbox import Limits, Sandbox, shared_sandbox
box = shared_sandbox()
assert box.run("def f(): return 1", ["assert f() == 1"]).all_passed
print(*descendants(os.getpid()), flush=True)
"""


def test_the_end_of_the_interpreter_ends_the_processes():
    done = launch("-c", START)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) >= 2
    assert alive(pids) == []


ENDLESS_AND_DEAF = """
import signal
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
while True: pass
"""


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_a_killed_parent_takes_everything_along(busy):
    """Even while a program runs that holds on as hard as it can, and while a fork of the parent lives on."""
    fork = "\nfork = os.fork()\nif fork == 0:\n    time.sleep(60)\n    os._exit(0)\nprint(fork, flush=True)\n"
    work = f"box.run({ENDLESS_AND_DEAF!r}, (), Limits(seconds=60.0))" if busy else "time.sleep(60)"
    environment = {**os.environ, "PYTHONPATH": f"{HERE.parents[1] / 'src'}{os.pathsep}{HERE.parent}"}
    command = [sys.executable, "-c", START + fork + work]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        forked = int(parent.stdout.readline())
        if busy:
            assert wait_until(lambda: len(descendants(parent.pid)) >= len(pids) + 3)  # the fork, an evaluator, a program
            pids = [pid for pid in descendants(parent.pid) if pid != forked]
        parent.kill()
        parent.wait()
        assert alive([forked]) == [forked]
        gone = wait_until(lambda: not alive(pids))
        os.kill(forked, signal.SIGKILL)
    assert gone
