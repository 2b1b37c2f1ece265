"""What agents built, as the details of a joint action tell it.

`{"blocks": [[x, y, z, id], ...], "target": [[x, y, z] or [x, y, z, id], ...]}`; `target` may be left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Cell = tuple[int, int, int]
"""Block coordinates (x, y, z), y up."""


@dataclass(frozen=True, slots=True)
class Build:
    """Blocks that stand, and what was asked for where that is known."""

    blocks: Mapping[Cell, str]
    """Ids as the environment names them, without `minecraft:`."""
    target: Mapping[Cell, str | None] | None = None
    """The block wanted in each target cell, None for any; None where the target is not known."""

    @property
    def box(self) -> tuple[Cell, Cell]:
        """The lowest and the highest corner of all that stands or is asked for. Raises ValueError where that is nothing."""
        axes = list(zip(*self._cells(), strict=True))
        low, high = [min(axis) for axis in axes], [max(axis) for axis in axes]
        return (low[0], low[1], low[2]), (high[0], high[1], high[2])

    @property
    def is_empty(self) -> bool:
        """Nothing stands and nothing is asked for."""
        return not self._cells()

    @property
    def missing(self) -> frozenset[Cell]:
        """Target cells in which nothing stands."""
        return frozenset((self.target or {}).keys() - self.blocks.keys())

    @property
    def wrong(self) -> frozenset[Cell]:
        """Cells whose block is not asked for: outside the target, or not the one that it names."""
        if self.target is None:
            return frozenset()
        wanted = self.target
        return frozenset(c for c, block in self.blocks.items() if c not in wanted or wanted[c] not in (None, block))

    @property
    def kinds(self) -> list[str]:
        """Every block that stands or that the target names, by name."""
        return sorted({*self.blocks.values(), *(block for block in (self.target or {}).values() if block is not None)})

    def counts(self) -> list[tuple[str, int]]:
        """How many of each kind stand, most first, then by name."""
        standing = Counter(self.blocks.values())
        return sorted(((block, standing[block]) for block in self.kinds), key=lambda item: (-item[1], item[0]))

    def _cells(self) -> set[Cell]:
        return {*self.blocks, *(self.target or {})}


def read_build(details: Mapping[str, Any]) -> Build | None:
    """The build among a joint action's details; None where they hold none (an environment may mean anything by these keys)."""
    blocks = details.get("blocks")
    if not isinstance(blocks, list) or not all(_is_block(b) for b in blocks):
        return None
    target = details.get("target")
    wanted: dict[Cell, str | None] | None = None
    if isinstance(target, list) and all(_is_cell(t) or _is_block(t) for t in target):
        wanted = {(t[0], t[1], t[2]): _plain(t[3]) if len(t) == 4 else None for t in target}
    return Build({(x, y, z): _plain(block) for x, y, z, block in blocks}, wanted)


def _plain(block: str) -> str:
    return block.removeprefix("minecraft:")


def _is_cell(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(type(v) is int for v in value)


def _is_block(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and _is_cell(value[:3]) and isinstance(value[3], str)
