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
from typing import Any, NoReturn

from .captured import Captured, describe
from .frames import send_frame
from .proxies import Channel, FromProgram, Names, ProgramGoneError


@dataclass(frozen=True, slots=True)
class Task:
    """A program, and the test it is to pass; None: the program is only run."""

    program: str
    preamble: str
    test: str | None
    bind: Mapping[str, str]


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
        _report(report_fd, _judge(task.preamble, task.test, task.bind, channel))
    os._exit(0)


def _judge(preamble: str, test: str, bind: Mapping[str, str], channel: Channel) -> dict[str, Any]:
    random.seed(0)
    names = Names(channel, bind)
    with Captured() as captured:
        _import_modules(f"{preamble}\n{test}", names, bind)
        exec(compile(preamble, "<preamble>", "exec", dont_inherit=True), names)
        exec(compile(test, "<test>", "exec", dont_inherit=True), names)
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


def _import_modules(code: str, names: Names, bind: Mapping[str, str]) -> None:
    """Imports the modules of the standard library that the code names without importing them, as in `math.isclose(f(2), 1.4)`.

    Otherwise such a name would be the program's, and the program would be asked whether its own result is right.
    """
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = node.value.id
            if name in sys.stdlib_module_names and name not in bind:
                names[name] = import_module(name)


def _report(fd: int, report: dict[str, Any]) -> None:
    send_frame(fd, json.dumps(report).encode("ascii"))
