"""Letters as cells: the A-Z glyph table of tasks.md and the layout of a string.

Letters are 5 wide and 5 high with 2 empty columns between them, on the plane z = 0. Row 0 of a glyph is the top, y = 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from collm.envs.minecraft.commands import Box
from collm.errors import DataError

HEIGHT = 5
WIDTH = 5
GAP = 2

Cell2 = tuple[int, int]
"""A cell (x, y) of the plane z = 0, y up."""

_TABLE = """
A 01110 10001 11111 10001 10001   J 00111 00010 00010 10010 01100   S 01111 10000 01110 00001 11110
B 11110 10001 11110 10001 11110   K 10001 10010 11100 10010 10001   T 11111 00100 00100 00100 00100
C 01111 10000 10000 10000 01111   L 10000 10000 10000 10000 11111   U 10001 10001 10001 10001 01110
D 11110 10001 10001 10001 11110   M 10001 11011 10101 10001 10001   V 10001 10001 10001 01010 00100
E 11111 10000 11110 10000 11111   N 10001 11001 10101 10011 10001   W 10001 10001 10101 11011 10001
F 11111 10000 11110 10000 10000   O 01110 10001 10001 10001 01110   X 10001 01010 00100 01010 10001
G 01111 10000 10111 10001 01110   P 11110 10001 11110 10000 10000   Y 10001 01010 00100 00100 00100
H 10001 10001 11111 10001 10001   Q 01110 10001 10001 10011 01111   Z 11111 00010 00100 01000 11111
I 11111 00100 00100 00100 11111   R 11110 10001 11110 10010 10001
"""


def _read_table(table: str) -> dict[str, frozenset[Cell2]]:
    words = table.split()
    glyphs: dict[str, frozenset[Cell2]] = {}
    for start in range(0, len(words), HEIGHT + 1):
        letter, rows = words[start], words[start + 1 : start + 1 + HEIGHT]
        glyphs[letter] = frozenset((x, HEIGHT - 1 - r) for r, row in enumerate(rows) for x, bit in enumerate(row) if bit == "1")
    return glyphs


GLYPHS = _read_table(_TABLE)
"""Cells (x, y) of each letter, 0 <= x, y < 5."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A string as target cells."""

    text: str
    cells: frozenset[Cell2]
    width: int

    @property
    def box(self) -> Box:
        """The smallest box around all letter frames; blocks outside it are refused."""
        return Box((0, 0, 0), (self.width - 1, HEIGHT - 1, 0))

    @property
    def box_cells(self) -> int:
        return self.width * HEIGHT

    def __deepcopy__(self, memo: dict[int, Any]) -> Layout:
        return self  # immutable; tree rollouts copy environments often


@lru_cache(maxsize=256)
def _lay_out(text: str, shown: str) -> Layout:
    cells = frozenset((i * (WIDTH + GAP) + x, y) for i, letter in enumerate(shown) for x, y in GLYPHS.get(letter, ()))
    return Layout(text, cells, len(shown) * (WIDTH + GAP) - GAP)


def lay_out(text: object, *, blank_unknown: bool = False, field: str = "string") -> Layout:
    """The layout of a string of the letters A-Z.

    With `blank_unknown` the string is upper-cased and a character without a glyph is an empty frame, as in the released
    code (profile comlrl); otherwise it is an error.

    Raises DataError, naming `field`, for anything but a non-empty string of letters A-Z.
    """
    if not isinstance(text, str):
        raise DataError(f"{field}: expected a string of the letters A-Z, got {text!r} ({type(text).__name__})")
    if not text:
        raise DataError(f"{field}: the string is empty; give at least one letter A-Z, for example ICML")
    if blank_unknown:
        return _lay_out(text, text.upper())
    unknown = [c for c in dict.fromkeys(text) if c not in GLYPHS]
    if unknown:
        mend = f"write {text.upper()}" if all(c in GLYPHS for c in text.upper()) else "use only the letters A-Z"
        raise DataError(f"{field}: {text!r} has no glyph for {', '.join(map(repr, unknown))}; {mend}")
    return _lay_out(text, text)
