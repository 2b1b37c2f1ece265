"""Where environments are stepped makes no difference to what comes out, and what goes wrong there is told."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rollout_tools import make_team, play
from step_envs import TrickEnv, UnknownThereEnv, UnsendableEnv, WaitingLettersEnv
from step_tools import joint, opened
from toy_envs import LettersEnv

from collm.config.tasks import ArxivTask, CoopHETask, HouseBuildTask, MbppTask, StrBuildTask, TldrTask
from collm.envs.tasks import BUILT_IN
from collm.errors import DataError, WorkerError
from collm.rollout.branch import TreeShape
from collm.rollout.describe import describe
from collm.rollout.stepping import Stepper, Way, automatic_workers, way_of

TESTS = Path(__file__).parents[1]
PROSE = "First, the model learns to write. However, it repeats itself; therefore the reward falls. For example, see this text. "


@pytest.fixture(scope="module")
def two():
    with Stepper(2) as stepper:
        yield stepper


@pytest.fixture
def inline():
    with Stepper(0) as stepper:
        yield stepper


def failed(stepper: Stepper, text: str, env=None, **where) -> BaseException:
    """What comes of one step that goes wrong."""
    (future,) = stepper.submit([joint(opened(env or TrickEnv()), [text], **where)], False)
    error = future.exception(timeout=60)
    assert error is not None
    return error


# -- the same everywhere ----------------------------------------------------------------------------------------------


def answers(name: str, row, turn: int) -> list[str]:
    """Two agents' texts, better from turn to turn."""
    match name:
        case "strbuild":
            return ["\n".join(f"/setblock {x} {y} 0 white_concrete" for x in range(3 + 3 * turn) for y in range(5))] * 2
        case "housebuild":
            return [f"/fill 0 0 0 {2 + turn} 2 2 stone\n/fill 0 {turn} 0 1 3 1 oak_planks"] * 2
        case "coophe":
            return [row["reference_aux"] if turn else "no code", f"```python\n{row['reference_main']}\n```" if turn else "def f(:"]
        case "mbpp":
            return ["def aux(*a):\n    return '\\d'", row["code"] if turn else "import os"]
    return [PROSE, PROSE * 2 + "In addition, the second text is longer."]


def episode(stepper: Stepper, task, row) -> list[tuple]:
    """All that the rollout reads of an episode, and the environment's state after it, to the last bit."""
    env, seen = opened(BUILT_IN[type(task)].make(task, 2, "last"), row, seed=7), []
    for turn in range(9):
        (future,) = stepper.submit([joint(env, answers(task.name, row, turn), turn=turn)], keep_cut=True)
        out = future.result(timeout=120)
        env = out.env
        told = out.following and (out.following[0], out.following[1].text, out.following[1].features.tobytes())
        seen.append((out.reward, out.terminated, out.truncated, out.metrics, out.details, told, env.state()["text"]))
        if out.terminated or out.truncated:
            return seen
    raise AssertionError("no end")


@pytest.mark.parametrize("make", [StrBuildTask, HouseBuildTask, TldrTask, ArxivTask, CoopHETask, MbppTask])
def test_episodes_of_every_task_are_the_same_in_a_process(make, two, inline):
    task = make()
    rows = BUILT_IN[make].rows(task)
    for row in rows[:2]:
        here, there = episode(inline, task, row), episode(two, task, row)
        assert here == there
    assert len(here) == 1 or here[0] != here[1]  # the state has moved along


def test_a_rollout_is_the_same_in_a_process(two):
    shape = TreeShape(2)
    here, _ = play(make_team(2), shape, plans=3)
    there, _ = play(make_team(2), shape, plans=3, stepper=two)
    assert [describe(e) for e in here] == [describe(e) for e in there]


def test_outcomes_keep_their_order_and_both_workers_work(two):
    joints = [joint(opened(TrickEnv()), ["a" * n], f"e{n}") for n in range(1, 30)]
    outcomes = [future.result(timeout=60) for future in two.submit(joints, True)]
    assert [out.following[0]["agent_0"][-3:] for out in outcomes] == ["1 0"] * 29
    assert len({out.details["pid"] for out in outcomes} - {os.getpid()}) == 2


def test_workers_do_without_torch_and_have_a_session_of_their_own(two):
    (future,) = two.submit([joint(opened(TrickEnv()), ["hello"])], False)
    details = future.result(timeout=60).details
    assert details == {"pid": details["pid"], "torch": False, "session": details["pid"]}


# -- which way --------------------------------------------------------------------------------------------------------


def test_the_way_goes_by_what_a_class_declares_and_what_is_asked_for():
    assert [way_of(LettersEnv(), n) for n in (None, 0, 2)] == [Way.INLINE, Way.INLINE, Way.PROCESSES]
    assert [way_of(WaitingLettersEnv(), n) for n in (None, 0, 2)] == [Way.THREADS, Way.THREADS, Way.PROCESSES]
    assert [way_of(UnsendableEnv(), n) for n in (None, 0, 2)] == [Way.INLINE] * 3
    automatic = Way.PROCESSES if automatic_workers() else Way.INLINE
    assert [way_of(TrickEnv(), n) for n in (None, 0, 2)] == [automatic, Way.INLINE, Way.PROCESSES]


def test_a_class_of_the_started_script_stays_here(monkeypatch):
    monkeypatch.setattr(TrickEnv, "__module__", "__main__")
    assert way_of(TrickEnv(), None) is Way.INLINE
    with pytest.raises(WorkerError, match=r"training.env_workers: TrickEnv is defined in the script .* move it to a module"):
        way_of(TrickEnv(), 2)


def test_only_inline_is_immediate(inline):
    inline.submit([joint(opened(LettersEnv(1)), ["a"])], False)
    assert inline.immediate
    with Stepper() as threads:
        threads.submit([joint(opened(WaitingLettersEnv(1)), ["a"])], False)
        assert not threads.immediate


def test_nothing_is_stepped_after_the_end():
    stepper = Stepper(1)
    stepper.close()
    stepper.close()
    with pytest.raises(WorkerError, match="after their stepper was closed"):
        stepper.submit([joint(opened(LettersEnv(1)), ["a"])], False)


# -- what goes wrong --------------------------------------------------------------------------------------------------


def test_the_environments_own_error_says_where(two):
    error = failed(two, "raise", episode="e5", turn=2)
    assert isinstance(error, ZeroDivisionError)
    notes = "\n".join(error.__notes__)
    assert "raised by the environment's step() in episode e5, turn 2" in notes
    assert "In the worker process:" in notes
    assert "step_envs.py" in notes


def test_ours_has_the_place_in_front(two):
    error = failed(two, "raise ours", episode="e5", turn=2)
    assert isinstance(error, DataError)
    assert str(error) == "episode e5, turn 2: a row too many"


def test_an_error_that_cannot_be_sent_is_told(two):
    error = failed(two, "raise oddly", episode="e5", turn=2)
    assert isinstance(error, WorkerError)
    assert str(error).startswith("episode e5, turn 2: the environment raised step_envs.TwoPartError: 1 and 2\nIn the worker process:")


@pytest.mark.parametrize(
    ("text", "end"),
    [("exit", "exit code 3"), ("quit", "exit code 4"), ("kill", "killed by signal SIGKILL"), ("leave a child behind", "exit code 3")],
)
def test_a_worker_that_ends_is_told_and_replaced(text, end, two):
    error = failed(two, text, episode="e5", turn=2)
    assert isinstance(error, WorkerError)
    assert str(error).startswith(f"episode e5, turn 2: the worker process that stepped the environment has ended ({end}")
    assert "training.env_workers=0" in str(error)
    futures = two.submit([joint(opened(TrickEnv()), ["a"]) for _ in range(4)], False)
    assert [future.result(timeout=60).reward for future in futures] == [1.0] * 4


def test_what_cannot_be_pickled_is_told(two):
    env = opened(TrickEnv())
    env.kept = lambda: None
    assert "TrickEnv cannot be pickled and sent to a worker process" in str(failed(two, "a", env, episode="e5"))
    assert "cannot be pickled after its step" in str(failed(two, "keep a lambda", episode="e5"))
    assert "cannot be unpickled in a worker process: RuntimeError: not in this process" in str(failed(two, "a", UnknownThereEnv(1)))


def test_the_end_breaks_off_what_is_being_stepped(tmp_path):
    with Stepper(1) as stepper:
        file = tmp_path / "pid"
        running, waiting = stepper.submit([joint(opened(TrickEnv(str(file))), [t], f"e{t}") for t in ("spin", "a")], False)
        pid = written(file)
    assert isinstance(running.exception(timeout=10), WorkerError)
    assert waiting.cancelled() or isinstance(waiting.exception(timeout=10), WorkerError)
    assert not alive(pid)


# -- with the parent --------------------------------------------------------------------------------------------------

SCRIPT = """
import signal
import sys
from types import SimpleNamespace
from step_envs import TrickEnv
from collm.rollout.step_process import ProcessPool

# Whoever runs the tests in the background has it ignored, by everything they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
pool = ProcessPool(1)
env = TrickEnv(sys.argv[1])
env.reset()
try:
    pool.submit(SimpleNamespace(env=env, texts={"agent_0": "spin"}, where="here"), False).result()
except KeyboardInterrupt:
    pool.close()
    print("interrupted", flush=True)
"""


def started(tmp_path: Path) -> tuple[subprocess.Popen, int]:
    """A process whose worker spins, in a session of its own, and the worker's id."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    path = os.pathsep.join([str(TESTS), str(TESTS.parent / "src")])
    command = [sys.executable, str(script), str(tmp_path / "pid")]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, text=True, start_new_session=True)
    return process, written(tmp_path / "pid")


def test_a_worker_ends_with_a_parent_that_is_killed(tmp_path):
    process, worker = started(tmp_path)
    process.kill()
    process.communicate()
    assert ends(worker)


def test_an_interruption_is_for_the_parent_which_ends_its_workers(tmp_path):
    process, worker = started(tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    try:
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()  # where it goes on, its worker would spin for as long
    assert (said, process.returncode) == ("interrupted\n", 0)
    assert not alive(worker)


def written(file: Path) -> int:
    deadline = time.monotonic() + 60
    while not (file.exists() and file.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return int(file.read_text())


def alive(pid: int) -> bool:
    """Whether a process runs; a dead one that nobody has waited for does not."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def ends(pid: int) -> bool:
    deadline = time.monotonic() + 30
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


def test_built_in_environments_are_small_to_send():
    for make, task in BUILT_IN.items():
        section = make()
        env = opened(task.make(section, 2, "full"), task.rows(section)[0])
        assert len(pickle.dumps(env)) < 20_000
