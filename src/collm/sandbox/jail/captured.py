"""Running code that may raise anything, and holding on to what it raised."""

from __future__ import annotations

from types import TracebackType

MAX_ERROR_CHARACTERS = 300


class Captured:
    """A context that swallows whatever the code inside raises, and keeps it in `error`.

    For code that is not ours: a program, a test. It may raise any class, SystemExit and KeyboardInterrupt included, and
    what it raises is a result here.
    """

    error: BaseException | None = None

    def __enter__(self) -> Captured:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        self.error = error
        return True


def one_line(text: str) -> str:
    """A text on one line of bounded length, control characters replaced by spaces."""
    head = text[: 4 * MAX_ERROR_CHARACTERS]
    flat = " ".join("".join(character if character.isprintable() else " " for character in head).split())
    return flat if len(flat) <= MAX_ERROR_CHARACTERS else f"{flat[: MAX_ERROR_CHARACTERS - 3]}..."


def describe(error: BaseException) -> str:
    """`ClassName: message` on one line. The message is asked of the exception itself, which may refuse to give one."""
    name = type(error).__qualname__
    text = ""
    with Captured():
        text = str(error)
    return one_line(f"{name}: {text}" if text else name)
