"""Python source that nobody vouches for: parsed, or the reason why it does not parse, for any text in linear time."""

from __future__ import annotations

import ast
import re
import threading
import warnings
from dataclasses import dataclass

MAX_RESPONSE = 65536
"""Characters of a response that are looked at: many times what an agent may write, so that every step's work is bounded."""


_FILE = "<response>"
_parsing = threading.Lock()
_OURS = re.compile(r"<response>\Z")


@dataclass(frozen=True, slots=True)
class SourceError:
    """Why text is not Python."""

    line: int
    """From 1; 0 where it is the text as a whole."""
    column: int
    """From 1."""
    message: str


def syntax_tree(text: str, file: str = "<unknown>") -> ast.Module:
    """`ast.parse`, one at a time: in Python 3.11 two threads in it count their depth together, and one gets a SystemError."""
    with _parsing:
        return ast.parse(text, file)


def parse_source(text: str) -> ast.Module | SourceError:
    """The syntax tree of a text, or why there is none. Never raises."""
    _keep_quiet()
    try:
        return syntax_tree(text, _FILE)
    except SyntaxError as err:
        return SourceError(err.lineno or 0, max(err.offset or 0, 1), " ".join(err.msg.split()))
    except (RecursionError, MemoryError):
        return SourceError(0, 1, "nested too deeply")
    except ValueError as err:  # null bytes, half of a surrogate pair
        return SourceError(0, 1, " ".join(str(err).split()))


def _keep_quiet() -> None:
    """Python warns of invalid escapes while it parses, which are the model's business: for these texts it shall not.

    The filter stays, first of all filters. `warnings.catch_warnings` would not do: it puts the filters of the whole process back to
    what they were, in the middle of what another thread does with them.
    """
    if not warnings.filters or warnings.filters[0][3] != _OURS:
        warnings.filterwarnings("ignore", module=_OURS.pattern)
