"""A build drawn in the terminal: letters on coloured cells, so that it reads without colours too.

A build of one cell's depth is shown from the front; any other layer by layer, seen from above.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.style import Style
from rich.table import Table
from rich.text import Text

from collm.reports.build import Build, Cell
from collm.reports.build_colours import colour, is_light
from collm.reports.episode_text import visible

AIR, MISSING, WRONG = "·", "□", "!"
WANTED = "?"
"""Behind the letter of the block that a missing cell should be, where the target names one."""
CELL_WIDTH = 2
"""A letter, and a mark where the block is wrong."""
LABEL_WIDTH, GAP = 5, 2
TICK = 5
"""Cells between the numbers under a grid."""
_LEGEND_WIDTH = 32


@dataclass(frozen=True, slots=True)
class _Panel:
    """One grid: a title, a label and the cells of every row."""

    title: str
    rows: Sequence[tuple[str, Sequence[Cell]]]

    @property
    def width(self) -> int:
        return LABEL_WIDTH + max(CELL_WIDTH * len(self.rows[0][1]), len(self.title) - LABEL_WIDTH)


def build_view(build: Build, letters: Mapping[str, str], width: int) -> RenderableType:
    """The build and its legend, `width` columns wide at most (a single column of cells needs seven).

    `letters` has one for each block, as `block_letters` gives them; an episode uses the same for all its builds.
    """
    if build.is_empty:
        return Text("nothing was built", style="dim italic")
    panels = list(_panels(build, max(1, (width - LABEL_WIDTH) // CELL_WIDTH)))
    drawn = {id(panel): _draw(panel, build, letters) for panel in panels}
    lines = list(_lines(panels, width - GAP))
    legend = _legend(build, letters)
    shown: list[RenderableType] = []
    for side_by_side in lines:
        grid = Table.grid(padding=(0, GAP, 0, 0))
        beside = len(lines) == 1 and sum(p.width + GAP for p in side_by_side) + _LEGEND_WIDTH <= width
        grid.add_row(*(drawn[id(panel)] for panel in side_by_side), *([legend] if beside else []))
        shown += [grid] if beside else [grid, *([legend] if side_by_side is lines[-1] else [])]
    return Group(*shown)


def block_letters(blocks: Iterable[str]) -> dict[str, str]:
    """A letter for each block id, its first where that is free, then another of its own, then any."""
    letters: dict[str, str] = {}
    for block in sorted(set(blocks)):
        own = [c for c in block if c in string.ascii_lowercase]
        choices = [*own, *(c.upper() for c in own), *string.ascii_letters, *string.digits]
        free = [c for c in dict.fromkeys(choices) if c not in letters.values()]
        letters[block] = free[0] if free else "?"
    return letters


def _panels(build: Build, columns: int) -> Iterator[_Panel]:
    """Grids of at most `columns` cells a row: from the front, rows from the top; or layers, rows from the back (low z)."""
    (x0, y0, z0), (x1, y1, z1) = build.box
    for start in range(x0, x1 + 1, columns):
        xs = range(start, min(start + columns, x1 + 1))
        part = f", x {xs[0]} to {xs[-1]}" if x1 - x0 >= columns else ""
        if z0 == z1:
            title = f"front, z={z0}{part}"
            yield _Panel(title, [(f"y={y}", [(x, y, z0) for x in xs]) for y in range(y1, y0 - 1, -1)])
        else:
            for y in range(y0, y1 + 1):
                yield _Panel(f"layer y={y}{part}", [(f"z={z}", [(x, y, z) for x in xs]) for z in range(z0, z1 + 1)])


def _lines(panels: Sequence[_Panel], width: int) -> Iterator[list[_Panel]]:
    """The panels, as many side by side as fit."""
    line: list[_Panel] = []
    for panel in panels:
        if line and sum(p.width + GAP for p in line) + panel.width > width:
            yield line
            line = []
        line.append(panel)
    yield line


def _draw(panel: _Panel, build: Build, letters: Mapping[str, str]) -> Text:
    wrong, missing = build.wrong, build.missing
    drawn = Text(no_wrap=True)
    drawn.append(panel.title, style="dim")
    for label, cells in panel.rows:
        drawn.append(f"\n{label:<{LABEL_WIDTH}}", style="dim")
        for cell in cells:
            drawn.append_text(_cell(cell, build, letters, wrong, missing))
    ruler = "".join(f"{x if x % TICK == 0 else '':<{CELL_WIDTH}}"[:CELL_WIDTH] for x, _, _ in panel.rows[0][1])
    drawn.append(f"\n{'x':<{LABEL_WIDTH}}{ruler}", style="dim")
    return drawn


def _cell(cell: Cell, build: Build, letters: Mapping[str, str], wrong: frozenset[Cell], missing: frozenset[Cell]) -> Text:
    if cell in missing:
        return Text(_missing_mark(build, cell, letters), style="red")
    if cell not in build.blocks:
        return Text(f"{AIR} ", style="dim")
    block = build.blocks[cell]
    return Text.assemble((letters[block], _paint(block)), (WRONG if cell in wrong else " ", _paint(block)))


def _missing_mark(build: Build, cell: Cell, letters: Mapping[str, str]) -> str:
    wanted = (build.target or {})[cell]
    return f"{MISSING} " if wanted is None else f"{letters[wanted]}{WANTED}"


def _paint(block: str) -> Style:
    red, green, blue = colour(block)
    ink = "#000000" if is_light((red, green, blue)) else "#ffffff"
    return Style.parse(f"{ink} on #{red:02x}{green:02x}{blue:02x}")


def _legend(build: Build, letters: Mapping[str, str]) -> Table:
    legend = Table.grid(padding=(0, 1, 0, 0))
    for justify in ("left", "left", "right"):
        legend.add_column(justify=justify)
    for block, count in build.counts():
        legend.add_row(Text(f"{letters[block]} ", _paint(block)), visible(block), str(count))
    if build.target is not None:
        named = any(block is not None for block in build.target.values())
        legend.add_row(Text(f" {WANTED}" if named else f"{MISSING} ", "red"), "missing", str(len(build.missing)))
        legend.add_row(Text(f" {WRONG}"), "not asked for", str(len(build.wrong)))
    return legend
