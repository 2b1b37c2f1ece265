"""The trusted process that evaluates one test. It never shares an interpreter with the program."""

from __future__ import annotations

import ast
import json
import os
import random
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import CodeType
from typing import Any, NoReturn

from .captured import Captured, describe
from .frames import send_frame
from .proxies import Channel, FromProgram, Names, ProgramGoneError


@dataclass(frozen=True, slots=True)
class Task:
    """A program, and the test it is to pass (None: it is only run), compiled with what comes before it."""

    program: str
    preamble: CodeType
    test: CodeType | None
    modules: frozenset[str]
    bind: Mapping[str, str]


def make_task(program: str, preamble: str, test: str | None, bind: Mapping[str, str]) -> Task:
    """Compiles the trusted part, before the fork."""
    before = compile(preamble, "<preamble>", "exec", dont_inherit=True)
    if test is None:
        return Task(program, before, None, frozenset(), bind)
    modules = _modules(f"{preamble}\n{test}") - bind.keys()
    return Task(program, before, compile(test, "<test>", "exec", dont_inherit=True), modules, bind)


def evaluate(task: Task, channel: Channel, report_fd: int) -> NoReturn:
    """Reports `loaded` and then what came of the test, or why there was no test, and ends this process."""
    try:
        loaded = channel.start(task.program, alone=task.test is None)
    except ProgramGoneError as error:
        _report(report_fd, {"event": "gone", "error": str(error)})
        os._exit(0)
    match loaded:
        case ("ready",):
            _report(report_fd, {"event": "loaded"})
        case ("failed", str(kind), str(text)):
            _report(report_fd, {"event": "not_loaded", "status": kind, "error": text})
            os._exit(0)
        case _:
            _report(report_fd, {"event": "gone", "error": "the program broke the protocol"})
            os._exit(0)
    if task.test is not None:
        _report(report_fd, _judge(task, task.test, channel))
    os._exit(0)


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


def _report(fd: int, report: dict[str, Any]) -> None:
    send_frame(fd, json.dumps(report).encode("ascii"))
