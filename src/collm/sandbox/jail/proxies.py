"""The evaluator's side of the pipes: the program's functions and objects as stand-ins that ask the program.

Calling a stand-in sends the arguments as plain data and gives back plain data, another stand-in, or an exception of the
same name. Stand-ins cannot be compared, tested for truth or measured: a test judges plain data only.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from .frames import FrameError, receive_frame, send_frame
from .program import MAX_ANSWER_BYTES
from .wire import WireError, decode, encode

_MAX_QUESTION_BYTES = 1 << 29


class ProgramGoneError(BaseException):
    """The program has ended, or no longer keeps to the protocol. No `except Exception` of a test stops it."""


class FromProgram(Exception):
    """Base of the exceptions that the program raised, and that are raised again here."""

    text = ""
    stops_iteration = False

    def __str__(self) -> str:
        return self.text


class Channel:
    """Questions to the program and its answers. `gone` says why there are no more, once that is so."""

    def __init__(self, questions_fd: int, answers_fd: int) -> None:
        self._questions_fd = questions_fd
        self._answers_fd = answers_fd
        self.gone: str | None = None

    def start(self, source: str, alone: bool) -> tuple[Any, ...]:
        """Hands the program over and waits until it is loaded. Raises ProgramGoneError."""
        return self._exchange((source, alone))

    def ask(self, *question: object) -> Any:
        """The value that the program answers with. Raises what the program raised, or ProgramGoneError."""
        match self._exchange(question):
            case ("value", value):
                return value
            case ("raised", str(name), list(bases), str(text)):
                raise _exception(name, bases, text)
        self._lost("the program broke the protocol: an answer of an unknown form")

    def _exchange(self, question: object) -> tuple[Any, ...]:
        if self.gone is not None:
            raise ProgramGoneError(self.gone)
        # A question that cannot be encoded is the test's mistake and leaves the pipes as they are.
        payload = encode(question, _number_of, _MAX_QUESTION_BYTES)
        try:
            send_frame(self._questions_fd, payload)
            answer = decode(receive_frame(self._answers_fd, MAX_ANSWER_BYTES), lambda number, name: ProgramObject(self, number, name))
        except (EOFError, BrokenPipeError):
            self._lost("")
        except (WireError, FrameError) as error:
            self._lost(f"the program broke the protocol: {error}")
        if not isinstance(answer, tuple):
            self._lost("the program broke the protocol: an answer of an unknown form")
        return answer

    def _lost(self, why: str) -> NoReturn:
        self.gone = why
        raise ProgramGoneError(why)


class ProgramObject:
    """Stands for something in the program: a function, a class, an instance, an iterator."""

    __slots__ = ("_channel", "_name", "_number")

    def __init__(self, channel: Channel, number: int, name: str) -> None:
        self._channel = channel
        self._number = number
        self._name = name

    def __call__(self, *args: object, **kwargs: object) -> Any:
        return self._channel.ask("call", self, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked for by copy, inspect and the like: not the program's business
            raise AttributeError(f"{name} of an object of the program")
        return self._channel.ask("attribute", self, name)

    def __iter__(self) -> Iterator[Any]:
        iterator = self._channel.ask("iterate", self)
        # A program may well give a list here, where Python itself would demand an iterator.
        return iterator if isinstance(iterator, ProgramObject) else iter(iterator)

    def __next__(self) -> Any:
        try:
            return self._channel.ask("next", self)
        except FromProgram as error:
            if error.stops_iteration:
                raise StopIteration from None
            raise

    def _no_plain_data(self, *_: object) -> NoReturn:
        raise TypeError(f"the program gave an object of class {self._name!r}, which is no plain data: a test cannot judge it")

    __bool__ = __len__ = __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _no_plain_data  # pyright: ignore[reportAssignmentType]
    __repr__ = __str__ = __format__ = __hash__ = _no_plain_data  # pyright: ignore[reportAssignmentType]


class Names(dict[str, Any]):
    """The global names of a test: the test's and preamble's own, then Python's, then the program's."""

    def __init__(self, channel: Channel, bind: Mapping[str, str]) -> None:
        super().__init__(__name__="test")
        self._channel = channel
        self._bind = bind

    def __missing__(self, name: str) -> Any:
        if name not in self._bind and (name.startswith("__") or name in vars(builtins)):
            raise KeyError(name)
        asked = self._bind.get(name, name)
        try:
            return self._channel.ask("name", asked)
        except FromProgram as error:
            raise NameError(f"name {asked!r} is not defined") from error


def _number_of(value: object) -> tuple[int, str]:
    if isinstance(value, ProgramObject):
        return value._number, value._name
    raise TypeError(f"an object of class {type(value).__name__!r} is no plain data and cannot be handed to the program")


def _exception(name: str, bases: list[Any], text: str) -> FromProgram:
    """An exception like the program's: of its name, and of the first of its built-in classes."""
    known = next((_BUILTIN_ERRORS[base] for base in bases if isinstance(base, str) and base in _BUILTIN_ERRORS), None)
    kind = type(name, (FromProgram,) if known is None else (FromProgram, known), {"__module__": "program"})
    error = kind(text)
    error.text = text
    error.stops_iteration = "StopIteration" in bases
    return error


# Without those that cannot be made of a text, and without StopIteration: `all(map(f, values))` would take it for the end.
_NOT_RAISED_AGAIN = (BaseExceptionGroup, UnicodeError, Warning, StopIteration, StopAsyncIteration)
_BUILTIN_ERRORS: dict[str, type[Exception]] = {
    name: kind
    for name, kind in vars(builtins).items()
    if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, _NOT_RAISED_AGAIN)
} | {"UnicodeError": UnicodeError}
