"""Runs a program's tests in the sandbox, each test of the same program once."""

from __future__ import annotations

import textwrap
from collections import OrderedDict

from collm.envs.coding.problem import Problem
from collm.envs.coding.rules import Rules
from collm.sandbox import Limits, TestResult, TestStatus, shared_sandbox

_KEPT = 4096
_Key = tuple[str, Problem, Rules]
_known: OrderedDict[_Key, tuple[TestResult, ...]] = OrderedDict()
"""The newest results by program, problem and rules: models often write the same program again, and running it is most of a
step's time. Results with a time-out depend on the machine's load and are not kept."""


def run_tests(source: str, problem: Problem, rules: Rules) -> tuple[TestResult, ...]:
    """One result per test of the problem. Raises SandboxError where the sandbox cannot be had."""
    key = (source, problem, rules)
    if key in _known:
        _known.move_to_end(key)
        return _known[key]
    results = _run(source, problem, rules)
    if all(result.status is not TestStatus.TIMEOUT for result in results):
        _known[key] = results
        if len(_known) > _KEPT:
            _known.popitem(last=False)
    return results


def _run(source: str, problem: Problem, rules: Rules) -> tuple[TestResult, ...]:
    suite = problem.suite
    limits = Limits(seconds=rules.test_seconds, memory_mb=rules.memory_mb, max_timeouts=rules.max_timeouts)
    bind = {suite.calls: problem.entry_point} if suite.calls else {}
    tests = suite.asserts if rules.fresh_program else after_one_another(suite.asserts)
    return shared_sandbox(rules.sandbox).run(source, tests, limits, preamble=suite.preamble, bind=bind).results


def after_one_another(asserts: tuple[str, ...]) -> tuple[str, ...]:
    """Each test after those before it, whatever came of them: as if all met one and the same program, which keeps its state."""
    before = [f"try:\n{textwrap.indent(test, '    ')}\nexcept BaseException:\n    pass\n" for test in asserts]
    return tuple("".join(before[:i]) + test for i, test in enumerate(asserts))
