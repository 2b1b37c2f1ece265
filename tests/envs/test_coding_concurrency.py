"""Coding environments are stepped at the same time: one run per program, and the process's warnings are left alone."""

from __future__ import annotations

import ast
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from toy_envs import LettersEnv

from collm.config.tasks import CoopHETask
from collm.envs.coding import testing
from collm.envs.coding.env import CodingEnv
from collm.envs.coding.problem import read_problem
from collm.envs.coding.rows import built_in_rows
from collm.envs.coding.rules import resolve_rules
from collm.envs.coding.source import parse_source
from collm.errors import SandboxError
from collm.sandbox import TestResult, TestStatus

RULES = resolve_rules(CoopHETask(), 2)
PROBLEM = read_problem(built_in_rows()[0])
PASSED = (TestResult(True, TestStatus.PASSED, "", 0.0),)
TIMED_OUT = (TestResult(False, TestStatus.TIMEOUT, "", 8.0),)


class Runs:
    """Stands for the sandbox: the first run waits until it may end, and each may have a result of its own."""

    def __init__(self, *results) -> None:
        self.results, self.count = list(results), 0
        self.begun, self.may_end = threading.Event(), threading.Event()

    def __call__(self, source, problem, rules):
        self.count += 1
        result = self.results.pop(0) if self.results else PASSED
        self.begun.set()
        assert self.may_end.wait(30)
        if isinstance(result, Exception):
            raise result
        return result


def together(monkeypatch, source: str, runs: Runs, threads: int = 6) -> list:
    """What each of several threads that ask for the same program gets; the others ask while the first is running."""
    monkeypatch.setattr(testing, "_run", runs)
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(testing.run_tests, source, PROBLEM, RULES)]
        assert runs.begun.wait(30)
        futures += [pool.submit(testing.run_tests, source, PROBLEM, RULES) for _ in range(threads - 1)]
        runs.may_end.set()
        return [future.exception() or future.result() for future in futures]


def test_a_program_is_run_once_for_all_that_ask(monkeypatch):
    runs = Runs()
    assert together(monkeypatch, "x = 'once'", runs) == [PASSED] * 6
    assert runs.count == 1
    assert testing.run_tests("x = 'once'", PROBLEM, RULES) == PASSED
    assert runs.count == 1


def test_a_failure_is_that_threads_own(monkeypatch):
    first, *others = together(monkeypatch, "x = 'failing'", Runs(SandboxError("no sandbox")))
    assert isinstance(first, SandboxError)
    assert others == [PASSED] * 5


def test_time_outs_are_not_kept(monkeypatch):
    runs = Runs(TIMED_OUT)
    assert together(monkeypatch, "x = 'slow'", runs, threads=1) == [TIMED_OUT]
    assert testing.run_tests("x = 'slow'", PROBLEM, RULES) == PASSED


def test_parsing_warns_nobody_whatever_the_filters_say():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("error")
        assert isinstance(parse_source("x = '\\d' + 1if 1 else 2"), ast.Module)
        warnings.simplefilter("always")
        assert isinstance(parse_source("x = '\\d'"), ast.Module)
        assert not seen
        ast.parse("x = '\\d'")
    assert len(seen) == 1  # text that is not a response still warns


def test_parsing_leaves_other_threads_filters_alone():
    inside, done = threading.Event(), threading.Event()

    def quiet() -> bool:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="mine")
            ours = warnings.filters
            inside.set()
            assert done.wait(30)
            return warnings.filters is ours and any(f[1] is not None and f[1].pattern == "mine" for f in ours)

    with ThreadPoolExecutor(1) as pool:
        before = warnings.filters
        other = pool.submit(quiet)
        assert inside.wait(30)
        parse_source("x = '\\d'")
        done.set()
        assert other.result()
    assert warnings.filters is before


@pytest.fixture
def hasty():
    """Threads take turns as often as they can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("hasty")
def test_steps_in_threads_give_what_steps_one_by_one_give():
    rows = built_in_rows()[:6]

    def step(number: int):
        row = rows[number % 6]
        env = CodingEnv(CoopHETask(), 2)
        env.reset(seed=0, options={"task": row})
        marked = f"{row['reference_main']}\n\ndef unused():\n    return '\\d{number % 3}'\n"
        return env.step({"agent_0": row["reference_aux"], "agent_1": marked})

    with ThreadPoolExecutor(8) as pool:
        threaded = list(pool.map(step, range(24)))
    with testing._lock:
        testing._known.clear()
    assert threaded == [step(number) for number in range(24)]


@pytest.mark.parametrize(("env", "declared"), [(CodingEnv, True), (LettersEnv, False)])
def test_coding_declares_it(env, declared):
    assert ("concurrent_steps" in vars(env)) is declared
