"""What the agents read: the first prompt and the kinds of feedback (tasks.md section 2).

The texts are short on purpose: the built-in tiny models read them too, and every word is a token.
"""

from __future__ import annotations

from collections.abc import Sequence

from collm.envs.coding.problem import Problem
from collm.envs.coding.program import Part
from collm.envs.coding.scoring import Score

_MAX_TEST = 400
_MAX_ERROR = 160
"""Characters shown of a failing test and of its exception."""


def first_prompt(problem: Problem, helpers: Sequence[str], agent: int) -> str:
    """The prompt of turn 1 for agent number `agent` (from 0); the last agent writes the entry point."""
    lines = ["Problem:", problem.prompt, ""]
    entry, n_agents = problem.signature, len(helpers) + 1
    if n_agents == 1:
        lines.append(f"Write the function {entry}.")
    elif agent < len(helpers):
        name = helpers[agent]
        lines += [
            f"You are agent {agent + 1} of {n_agents}. Write only a helper for it: def {name}(...), which returns a value.",
            f"Agent {n_agents} writes {entry} and may call {name}, as a rule with the same arguments. You do not see each other's code.",
        ]
    else:
        writers = "; ".join(f"agent {i + 1} writes a helper {name}(...)" for i, name in enumerate(helpers))
        lines += [
            f"You are agent {n_agents} of {n_agents}. Write only the function {entry}.",
            f"{writers.capitalize()}, as a rule with the same arguments: call it and work on with what it returns. "
            "You do not see each other's code.",
        ]
    return "\n".join([*lines, "Answer with Python code only."])


def findings(score: Score, failing: Sequence[str], agent: int) -> list[str]:
    """Level by level, one line each: what was defined, the syntax, the tests, and for the entry point's agent its use of helpers."""
    program = score.program
    lines = [_definition(part) for part in program.parts]
    if not program.main.defined:
        return [*lines, "Tests: not run."]
    if program.error is not None:
        error = program.error
        where = f" in {program.error_part}" if program.error_part else ""
        return [*lines, f"Syntax: error{where}, line {error.line}, column {error.column}: {error.message}.", "Tests: not run."]
    lines += ["Syntax: OK.", f"Tests: {score.passed} of {score.tests} passed.", *failing]
    if agent == len(program.parts) - 1:
        lines += [_use(part.name, score, i) for i, part in enumerate(program.parts[:-1])]
    return lines


def failing_tests(score: Score, problem: Problem, first: int) -> list[str]:
    """The failing ones of the first `first` tests that ran (0: of all), each with its exception."""
    looked_at = list(zip(problem.shown, score.results, strict=False))[: first or None]
    return [f"Failed: {_cut(test, _MAX_TEST)} ({_cut(result.error, _MAX_ERROR)})" for test, result in looked_at if not result.passed]


def _definition(part: Part) -> str:
    if part.asked is None:
        return f"{part.name}: not found; write def {part.name}( at the start of a line."
    return f"{part.name}: defined." if part.defined else f"{part.name}: returns no value."


def _use(helper: str, score: Score, index: int) -> str:
    use = score.program.uses[index]
    if not use.called:
        return f"{helper} is not called."
    if use.ignored:
        return f"{helper} is called and its result never used."
    return f"{helper} is merely wrapped; work on with what it returns." if score.program.wrapper else f"{helper} is called."


def _cut(text: str, size: int) -> str:
    return text if len(text) <= size else f"{text[: size - 3]}..."
