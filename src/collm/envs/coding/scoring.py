"""The coding reward: a pure function of the joint program and its tests' verdict (tasks.md section 2).

    1a  share of helpers defined with a return     x 0.4
    1b  entry point defined with a return            0.6, else stop
    2   the joined program parses                    0.5, else stop
    3a  tests passed / tests                       x 1.0; with none passed nothing below
    3b  share of helpers the entry point calls     x 0.5
    3c  it calls one and is no thin wrapper of it    1.0
    3d  share of helpers called in vain            x -0.5

With one helper a share is 0 or 1 and the sum at most 4.0; without helpers 1a, 3b, 3c and 3d fall away: 2.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from collm.envs.coding.program import Program
from collm.envs.coding.rules import Rules
from collm.sandbox import TestResult, TestStatus


@dataclass(frozen=True, slots=True)
class Score:
    """The score of one turn and what it was for."""

    reward: float
    program: Program
    results: tuple[TestResult, ...]
    """Of every test; none where the program could not be tested."""
    tests: int

    @property
    def passed(self) -> int:
        return sum(result.passed for result in self.results)

    def metrics(self) -> dict[str, float]:
        """What is logged of it."""
        program, uses = self.program, self.program.uses
        return {
            "pass_rate": self.passed / self.tests,
            "passed_all": float(self.passed == self.tests),
            "aux_defined": _share([part.defined for part in program.parts[:-1]]),
            "main_defined": float(program.main.defined),
            "syntax_ok": float(can_be_tested(program)),
            "calls_aux": _share([use.called for use in uses]),
            "wrapper": float(program.wrapper),
            "aux_ignored": _share([use.ignored for use in uses]),
            "tests": float(self.tests),
            "timeouts": float(sum(result.status is TestStatus.TIMEOUT for result in self.results)),
        }

    def details(self, shown: Sequence[str]) -> dict[str, Any]:
        """The program and its tests, as `shown` to people."""
        if not self.results:
            rows = [{"test": test, "passed": False, "error": "not run"} for test in shown]
        else:
            ran = zip(shown, self.results, strict=True)
            rows = [{"test": test, "passed": result.passed, "error": result.error} for test, result in ran]
        return {"program": self.program.source, "tests": rows}

    def __deepcopy__(self, memo: dict[int, Any]) -> Score:
        return self  # immutable throughout


def can_be_tested(program: Program) -> bool:
    """Whether levels 1b and 2 are reached, so that the tests decide."""
    return program.main.defined and program.error is None


def score_program(program: Program, results: Sequence[TestResult], tests: int, rules: Rules) -> Score:
    """The score; `results` are those of the `tests` tests, or none where the program cannot be tested."""
    passed = sum(result.passed for result in results)
    reward = rules.helper_reward * _share([part.defined for part in program.parts[:-1]])
    if program.main.defined:
        reward += rules.main_reward
    if can_be_tested(program):
        reward += rules.syntax_reward + rules.tests_reward * passed / tests
    if passed:
        reward += _bonuses(program, rules)
    return Score(reward, program, tuple(results), tests)


def _bonuses(program: Program, rules: Rules) -> float:
    uses = program.uses
    reward = rules.call_reward * _share([use.called for use in uses])
    if any(use.called for use in uses) and not program.wrapper:
        reward += rules.own_work_reward
    return reward - rules.ignored_penalty * _share([use.ignored for use in uses])


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags) if flags else 0.0
