"""The process that executes the untrusted code, and answers the evaluator's questions about it.

Once the program runs, everything here is at its mercy: it shares this interpreter and may change any of it. That is why nothing
here decides anything. A program that tampers with this module can do no more than answer differently, which it could have
done with a plain `return`.
"""

from __future__ import annotations

import atexit
import io
import linecache
import os
import random
import sys
import traceback
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NoReturn, TextIO

from .captured import Captured, describe, one_line
from .frames import receive_frame, send_frame
from .wire import decode, encode

QUESTIONS_FD, ANSWERS_FD = 3, 4
MAX_ANSWER_BYTES = 32 << 20
"""Of one result. The evaluator refuses longer ones as well."""

_MAX_QUESTION_BYTES = 1 << 30
_FILE_NAME = "program.py"


@dataclass(frozen=True, slots=True)
class _Ending:
    """How a program ended that did not run to its end."""

    kind: str
    error: BaseException


def prepare() -> None:
    """Standard streams and environment as every program finds them. Done once, before the forks."""
    sys.stdin = sys.__stdin__ = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, "r", closefd=False)), encoding="utf-8")
    sys.stdout = sys.__stdout__ = _text_stream(1, line_buffering=False)
    sys.stderr = sys.__stderr__ = _text_stream(2, line_buffering=True)
    os.environ.clear()  # noqa: TID251 - emptied, not read
    sys.argv = [_FILE_NAME]


def serve() -> NoReturn:
    """Executes the program that comes first, then answers until there are no more questions. After `prepare`, in a fork."""
    pipes = _Pipes()
    source, alone = pipes.receive()
    stdout = sys.stdout
    random.seed(0)  # the same numbers every time; Python itself draws a new seed in each fork
    module = _module(source, "__main__" if alone else "program")
    ending = _execute(source, module)
    if alone:
        _end_alone(ending, stdout, pipes)
    _flush(stdout)
    if ending is not None:
        pipes.send(_failed(ending))
        os._exit(1)
    pipes.send(("ready",))
    while True:
        try:
            question = pipes.receive()
        except EOFError:
            os._exit(0)
        _answer(pipes, module, question, stdout)


def _answer(pipes: _Pipes, module: ModuleType, question: Any, stdout: TextIO) -> None:
    with Captured() as captured:
        value = _find(module, *question)
        _flush(stdout)  # first: with its last answer given, the program may be ended at any moment
        pipes.send(("value", value))
    error = captured.error
    if error is not None:
        captured.error = None
        error.__traceback__ = None  # the frames hold what filled the memory, where memory was what ran out
        _flush(stdout)
        pipes.send(_raised(error))


def _find(module: ModuleType, what: str, target: Any, *rest: Any) -> object:
    """The value that one question asks for."""
    if what == "name":
        return vars(module)[target]
    if what == "call":
        return target(*rest[0], **rest[1])
    if what == "attribute":
        return getattr(target, rest[0])
    return iter(target) if what == "iterate" else next(target)


def _raised(error: BaseException) -> tuple[Any, ...]:
    bases = [kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins"]
    text = ""
    with Captured():
        text = str(error)
    return ("raised", type(error).__qualname__, bases, one_line(text))


def _text_stream(fd: int, line_buffering: bool) -> io.TextIOWrapper:
    raw = io.BufferedWriter(io.FileIO(fd, "w", closefd=False))
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", line_buffering=line_buffering)


def _flush(stream: TextIO) -> None:
    with Captured():  # the program may have closed it
        stream.flush()


def _module(source: str, name: str) -> ModuleType:
    module = ModuleType(name)
    sys.modules[name] = sys.modules["__main__"] = module
    linecache.cache[_FILE_NAME] = (len(source), None, source.splitlines(keepends=True), _FILE_NAME)
    return module


def _execute(source: str, module: ModuleType) -> _Ending | None:
    """Executes the module; None where that went to its end."""
    code = None
    with Captured() as captured:
        code = compile(source, _FILE_NAME, "exec", dont_inherit=True)
        exec(code, vars(module))
    error = captured.error
    if error is None:
        return None
    if code is None:
        return _Ending("syntax_error", error)
    if isinstance(error, SystemExit):
        return _Ending("exited", error)
    return _Ending("memory" if isinstance(error, MemoryError) else "load_error", error)


def _failed(ending: _Ending) -> tuple[str, str, str]:
    error = ending.error
    if isinstance(error, SyntaxError):
        text = one_line(f"{type(error).__name__}: {error.msg} (line {error.lineno}, column {error.offset})")
    else:
        text = describe(error)
    return ("failed", "load_error" if ending.kind == "exited" else ending.kind, text)


def _end_alone(ending: _Ending | None, stdout: TextIO, pipes: _Pipes) -> NoReturn:
    """Ends a program without tests as Python itself does: error printed, handlers run, streams flushed, an exit code left."""
    code = 0
    if ending is not None and isinstance(ending.error, SystemExit):
        code = _exit_code(ending.error.code)
    elif ending is not None:
        code = 1
        trace = ending.error.__traceback__
        traceback.print_exception(type(ending.error), ending.error, trace.tb_next if trace else None)
    atexit._run_exitfuncs()
    _flush(stdout)
    with Captured():  # the program may have closed the pipe; its exit code tells as well
        if ending is None:
            pipes.send(("ready",))
        elif ending.kind != "exited":
            pipes.send(_failed(ending))
    os._exit(code)


def _exit_code(code: object) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    print(code, file=sys.stderr)
    return 1


class _Pipes:
    """The pipes to the evaluator, and the objects that it knows by number because they are no plain data."""

    def __init__(self) -> None:
        self._objects: list[object] = []

    def receive(self) -> Any:
        return decode(receive_frame(QUESTIONS_FD, _MAX_QUESTION_BYTES), self._open)

    def send(self, answer: object) -> None:
        send_frame(ANSWERS_FD, encode(answer, self._make, MAX_ANSWER_BYTES))

    def _make(self, value: object) -> tuple[int, str]:
        self._objects.append(value)
        return len(self._objects) - 1, type(value).__name__

    def _open(self, number: int, _name: str) -> object:
        return self._objects[number]
