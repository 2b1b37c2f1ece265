"""The harder and more varied built-in coding problems, written by hand: rows 40: of problems.jsonl."""

from __future__ import annotations

import ast
from dataclasses import dataclass


@dataclass(frozen=True)
class ByHand:
    """A problem with its natural division of labour."""

    level: int
    """2 or 3; the family's problems have 1."""
    prompt: str
    tests: tuple[str, ...]
    aux: str
    main: str

    @property
    def entry_point(self) -> str:
        return next(node.name for node in ast.parse(self.prompt).body if isinstance(node, ast.FunctionDef))


PROBLEMS: tuple[ByHand, ...] = ()
