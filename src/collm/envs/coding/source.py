"""Python source that nobody vouches for: parsed, or the reason why it does not parse, for any text in linear time."""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass

MAX_RESPONSE = 65536
"""Characters of a response that are looked at: many times what an agent may write, so that every step's work is bounded."""


@dataclass(frozen=True, slots=True)
class SourceError:
    """Why text is not Python."""

    line: int
    """From 1; 0 where it is the text as a whole."""
    column: int
    """From 1."""
    message: str


def parse_source(text: str) -> ast.Module | SourceError:
    """The syntax tree of a text, or why there is none. Never raises."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of invalid escapes: the model's business
            return ast.parse(text)
    except SyntaxError as err:
        return SourceError(err.lineno or 0, max(err.offset or 0, 1), " ".join(err.msg.split()))
    except (RecursionError, MemoryError):
        return SourceError(0, 1, "nested too deeply")
    except ValueError as err:  # null bytes, half of a surrogate pair
        return SourceError(0, 1, " ".join(str(err).split()))
