"""StrBuild's task rows: `{"string": "ICML", "difficulty": 3}`; `difficulty` is optional and only informs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from collm.envs.strbuild.glyphs import Layout, lay_out
from collm.errors import DataError

_STRINGS = (("I", 1), ("C", 1), ("M", 1), ("L", 1), ("MC", 2), ("CM", 2), ("LI", 3), ("LLM", 3), ("ICML", 3), ("CLIM", 3))

BUILT_IN_ROWS: tuple[dict[str, Any], ...] = tuple({"string": string, "difficulty": level} for string, level in _STRINGS)
"""The ten strings of the paper: rows 0:8 train, 8:10 test."""


def row_layout(row: object, blank_unknown: bool, where: str = "task") -> Layout:
    """The layout of a row's string. Raises DataError, naming `where` and the field, for a row that StrBuild cannot use."""
    if not isinstance(row, Mapping):
        raise DataError(f'{where}: expected a row like {{"string": "ICML"}}, got {row!r}')
    if "string" not in row:
        has = ", ".join(map(str, row)) or "none"
        raise DataError(f'{where}: field \'string\' is missing (fields: {has}); a row is like {{"string": "ICML"}}')
    return lay_out(row["string"], blank_unknown=blank_unknown, field=f"{where}, field 'string'")
