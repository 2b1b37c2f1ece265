"""Cells merged into rectangles of one block and one layer, as prompts list them and `/fill` takes them."""

from __future__ import annotations

from collections.abc import Mapping

from collm.envs.minecraft.commands import Cell
from collm.envs.minecraft.fill import Fill


def rectangles(cells: Mapping[Cell, str]) -> tuple[Fill, ...]:
    """Greedy: runs of a block along x, then equal runs over consecutive z. Ordered by y, then z, then x of their low corner."""
    runs: dict[tuple[int, int], list[tuple[int, int, str]]] = {}
    for (x, y, z), block in sorted(cells.items(), key=lambda item: (item[0][1], item[0][2], item[0][0])):
        row = runs.setdefault((y, z), [])
        if row and row[-1][1:] == (x - 1, block):
            row[-1] = (row[-1][0], x, block)
        else:
            row.append((x, x, block))
    first_z: dict[tuple[int, int, tuple[int, int, str]], int] = {}
    """(y, last z, run) of the rectangles that may still grow -> their first z."""
    for y, z in runs:
        for run in runs[y, z]:
            first_z[y, z, run] = first_z.pop((y, z - 1, run), z)
    merged = [Fill((x1, y, z1), (x2, y, z2), block) for (y, z2, (x1, x2, block)), z1 in first_z.items()]
    return tuple(sorted(merged, key=lambda fill: (fill.low[1], fill.low[2], fill.low[0])))
