"""The trusted process that evaluates one test. It never shares an interpreter with the program."""

from __future__ import annotations

import ast
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import CodeType
from typing import Any

from .captured import Captured, describe, one_line
from .frames import send_frame
from .proxies import Channel, FromProgram, Names, ProgramGoneError

FAILURES = ("syntax_error", "load_error", "memory")
"""Ways in which a program can fail to load, in its own words."""


@dataclass(frozen=True, slots=True)
class Task:
    """A program and the tests it is to pass (none: it is only run), compiled with what comes before each of them."""

    program: str
    preamble: CodeType
    tests: tuple[CodeType, ...]
    modules: frozenset[str]
    bind: Mapping[str, str]


def make_task(program: str, preamble: str, tests: Sequence[str], bind: Mapping[str, str]) -> Task:
    """Compiles the trusted part, before the fork."""
    before = compile(preamble, "<preamble>", "exec", dont_inherit=True)
    compiled = tuple(compile(test, "<test>", "exec", dont_inherit=True) for test in tests)
    modules = frozenset[str]().union(*(_modules(code) for code in (preamble, *tests)))
    return Task(program, before, compiled, modules - bind.keys(), bind)


def evaluate(task: Task, number: int, channel: Channel, report_fd: int) -> dict[str, Any]:
    """Has the program loaded, reports that, and judges one test. Returns the final report.

    Its `event` is `judged`, `not_loaded` (the program failed), `done` (there is no test) or `gone` (no answer came).
    """
    try:
        loaded = channel.start(task.program, alone=not task.tests)
    except ProgramGoneError as error:
        return {"event": "gone", "error": str(error)}
    except MemoryError:
        return {"event": "gone", "error": "the program broke the protocol: an answer that does not fit into the memory allowed"}
    match loaded:
        case ("ready",):
            if not task.tests:
                return {"event": "done", "error": ""}
            send_frame(report_fd, b'{"event": "loaded"}')
            return _judge(task, task.tests[number], channel)
        case ("failed", str(kind), str(text)) if kind in FAILURES:
            return {"event": "not_loaded", "status": kind, "error": one_line(text)}
        case _:
            return {"event": "gone", "error": "the program broke the protocol"}


def _judge(task: Task, test: CodeType, channel: Channel) -> dict[str, Any]:
    random.seed(0)
    names = Names(channel, task.bind)
    with Captured() as captured:
        for module in task.modules:
            names[module] = import_module(module)
        exec(task.preamble, names)
        exec(test, names)
    error = captured.error
    if channel.gone is not None:
        return {"event": "gone", "error": channel.gone}
    if error is None:
        return {"event": "judged", "status": "passed", "error": ""}
    error.__traceback__ = None
    if isinstance(error, MemoryError):
        status = "memory"
    else:
        status = "failed" if isinstance(error, AssertionError) and not isinstance(error, FromProgram) else "error"
    return {"event": "judged", "status": status, "error": describe(error)}


def _modules(code: str) -> frozenset[str]:
    """The modules of the standard library of which the code names a member, as in `math.isclose(f(2), 1.4)`.

    They are imported for it. Otherwise such a name would be the program's, and the program would be asked whether its own
    result is right.
    """
    names = {node.value.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)}
    return frozenset(names & sys.stdlib_module_names)
