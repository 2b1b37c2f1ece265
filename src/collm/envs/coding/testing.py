"""Runs a program's tests in the sandbox, each test of the same program once."""

from __future__ import annotations

import textwrap
import threading
from collections import OrderedDict
from concurrent.futures import CancelledError, Future

from collm.envs.coding.problem import Problem
from collm.envs.coding.rules import Rules
from collm.sandbox import Limits, TestResult, TestStatus, shared_sandbox

_KEPT = 4096
_Key = tuple[str, Problem, Rules]
_known: OrderedDict[_Key, Future[tuple[TestResult, ...]]] = OrderedDict()
"""The newest results by program, problem and rules: models often write the same program again, and running it is most of a
step's time. Those still being found are among them, so that threads that need the same wait for one run. Results with a
time-out depend on the machine's load and are not kept."""
_lock = threading.Lock()


def run_tests(source: str, problem: Problem, rules: Rules) -> tuple[TestResult, ...]:
    """One result per test of the problem. May be called from several threads. Raises SandboxError where the sandbox cannot be had."""
    key = (source, problem, rules)
    while True:
        ours: Future[tuple[TestResult, ...]] = Future()
        with _lock:
            found = _known.setdefault(key, ours)
            _known.move_to_end(key)
            if len(_known) > _KEPT:
                _known.popitem(last=False)
        if found is ours:
            return _find(key, ours)
        try:
            return found.result()
        except CancelledError:
            continue  # it failed, and the error is the other thread's


def _find(key: _Key, ours: Future[tuple[TestResult, ...]]) -> tuple[TestResult, ...]:
    """Run the tests, for the threads that wait for `ours` too."""
    kept = False
    try:
        results = _run(*key)
        kept = all(result.status is not TestStatus.TIMEOUT for result in results)
        ours.set_result(results)
    finally:
        with _lock:
            if not kept and _known.get(key) is ours:
                del _known[key]
        ours.cancel()  # where it has no result
    return results


def _run(source: str, problem: Problem, rules: Rules) -> tuple[TestResult, ...]:
    fresh = _judged(source, problem, rules, problem.suite.asserts, rules.test_seconds)
    return fresh if rules.fresh_program else _with_state(fresh, source, problem, rules)


def _with_state(fresh: tuple[TestResult, ...], source: str, problem: Problem, rules: Rules) -> tuple[TestResult, ...]:
    """The results where the program keeps its state from test to test.

    A test that does not end, on a program of its own, is left out for the others, which it would hold up; what a test repeats
    of those before it has time of its own.
    """
    ends = [i for i, result in enumerate(fresh) if result.status not in (TestStatus.TIMEOUT, TestStatus.NOT_RUN)]
    if not ends or ends == [0]:
        return fresh
    tests = after_one_another(tuple(problem.suite.asserts[i] for i in ends))
    found = dict(zip(ends, _judged(source, problem, rules, tests, rules.test_seconds * len(ends)), strict=True))
    return tuple(found.get(i, result) for i, result in enumerate(fresh))


def _judged(source: str, problem: Problem, rules: Rules, tests: tuple[str, ...], seconds: float) -> tuple[TestResult, ...]:
    limits = Limits(seconds=seconds, memory_mb=rules.memory_mb, max_timeouts=rules.max_timeouts)
    suite = problem.suite
    # Always bound: an entry point with the name of one of Python's builtins would otherwise be that builtin to the tests.
    bind = {suite.calls or problem.entry_point: problem.entry_point}
    return shared_sandbox(rules.sandbox).run(source, tests, limits, preamble=suite.preamble, bind=bind).results


def after_one_another(asserts: tuple[str, ...]) -> tuple[str, ...]:
    """Each test after those before it, whatever came of them: as if all met one and the same program, which keeps its state."""
    before = [f"try:\n{textwrap.indent(test, '    ')}\nexcept BaseException:\n    pass\n" for test in asserts]
    return tuple("".join(before[:i]) + test for i, test in enumerate(asserts))
