"""A build as a picture: shaded cubes, what is missing as ghosts, what was not asked for edged in red, and a legend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from collm.reports.build import Build, Cell
from collm.reports.build_colours import RGB, colour, shade
from collm.reports.episode_text import visible
from collm.reports.export.projection import FRONT, SIDE, TOP, Face, Point, View, choose_view

PAPER, INK, PALE = (250, 250, 247), (40, 40, 44), (150, 150, 150)
RED = (214, 48, 40)
FLOOR, FLOOR_LINE = (240, 240, 235), (216, 216, 210)
LIGHT: dict[Face, float] = {TOP: 1.06, FRONT: 0.94, SIDE: 0.74}
"""How much of a block's colour each face shows."""
TOWARDS: dict[Face, Cell] = {TOP: (0, 1, 0), FRONT: (0, 0, 1), SIDE: (1, 0, 0)}
FINE = 3
"""Drawn this many times as large and scaled down, so that slanted edges are smooth."""
LARGEST_CELL, SMALLEST_CELL = 44, 4
WIDEST, HIGHEST = 1000, 760
"""Pixels of the drawing, without legend and margins."""
MARGIN, LEGEND_WIDTH, LINE, SWATCH, TEXT_SIZE, TICK_SIZE = 44, 230, 26, 16, 14, 11
TICK_EVERY = 5
FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
"""Comes with matplotlib, so that pictures are the same on every machine."""


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where the drawing stands in the picture."""

    view: View
    origin: Point
    width: int
    height: int


def draw_build(build: Build, caption: str) -> Image.Image:
    """The picture, RGB. The same build and caption give the same pixels."""
    legend = _legend(build)
    frame = _frame(build, len(legend))
    image = Image.new("RGB", (frame.width, frame.height), PAPER)
    if not build.is_empty:
        image.paste(_drawing(build, frame), (0, 0))
    pen = ImageDraw.Draw(image)
    if build.is_empty:
        _write(pen, (MARGIN, MARGIN + 18), "nothing was built", PALE, TEXT_SIZE)
    _write(pen, (MARGIN, MARGIN - 22), caption, INK, TEXT_SIZE + 2)
    for (x, y), text, anchor in [] if build.is_empty else _ticks(build, frame.view):
        _write(pen, (x + frame.origin[0], y + frame.origin[1]), text, PALE, TICK_SIZE, anchor)
    left = frame.width - LEGEND_WIDTH
    for row, (fill, edge, text) in enumerate(legend):
        top = MARGIN + 20 + row * LINE
        pen.rectangle((left, top, left + SWATCH, top + SWATCH), fill=fill, outline=edge, width=2)
        _write(pen, (left + SWATCH + 10, top - 2), text, INK, TEXT_SIZE)
    return image


def cell_size(build: Build) -> int:
    """A cell's edge in the picture, in pixels: as large as fits."""
    for size in range(LARGEST_CELL, SMALLEST_CELL, -1):
        (x0, y0), (x1, y1) = _bounds(build, choose_view(build, size))
        if x1 - x0 <= WIDEST and y1 - y0 <= HIGHEST:
            return size
    return SMALLEST_CELL


def _frame(build: Build, legend_rows: int) -> _Frame:
    top = MARGIN + 20
    if build.is_empty:
        view = View((1, 0), (0, -1), (0, 0), half_turn=False)
        return _Frame(view, (0, 0), 480, top + max(1, legend_rows) * LINE + MARGIN)
    view = choose_view(build, cell_size(build))
    (x0, y0), (x1, y1) = _bounds(build, view)
    drawing = max(round(x1 - x0), 200)
    height = max(round(y1 - y0), legend_rows * LINE + 20)
    return _Frame(view, (MARGIN - x0, top - y0), drawing + 2 * MARGIN + LEGEND_WIDTH, top + height + MARGIN)


def _bounds(build: Build, view: View) -> tuple[Point, Point]:
    low, high = _box(build, view)
    return view.bounds(low, high)


def _box(build: Build, view: View) -> tuple[Cell, Cell]:
    """The turned build's lowest and highest cells."""
    axes = list(zip(*(view.turned(corner) for corner in build.box), strict=True))
    low, high = [min(axis) for axis in axes], [max(axis) for axis in axes]
    return (low[0], low[1], low[2]), (high[0], high[1], high[2])


def _drawing(build: Build, frame: _Frame) -> Image.Image:
    large = Image.new("RGB", (frame.width * FINE, frame.height * FINE), PAPER)
    pen = ImageDraw.Draw(large, "RGBA")  # blends what is drawn with an alpha

    def place(points: Sequence[Point]) -> list[Point]:
        return [((x + frame.origin[0]) * FINE, (y + frame.origin[1]) * FINE) for x, y in points]

    for points in _floor(build, frame.view):
        _polygon(pen, place(points), FLOOR, FLOOR_LINE, FINE)
    view, wrong = frame.view, build.wrong
    solid = {view.turned(cell): (block, cell in wrong) for cell, block in build.blocks.items()}
    ghosts = {view.turned(cell) for cell in build.missing}
    # Whatever is behind is drawn first: along no axis does a later cell lie farther from the viewer.
    for cell in sorted([*solid, *ghosts], key=lambda c: (c[1], c[2], c[0])):
        for face in (TOP, FRONT, SIDE):
            neighbour = (cell[0] + TOWARDS[face][0], cell[1] + TOWARDS[face][1], cell[2] + TOWARDS[face][2])
            if neighbour in solid or (cell in ghosts and neighbour in ghosts):
                continue
            points = place(view.face(cell, face))
            if cell in ghosts:
                _polygon(pen, points, (*RED, 20), (*RED, 120), FINE)
            else:
                block, is_wrong = solid[cell]
                fill = shade(colour(block), LIGHT[face])
                _polygon(pen, points, fill, RED if is_wrong else shade(fill, 0.8), 2 * FINE if is_wrong else FINE)
    return large.resize((frame.width, frame.height), Image.Resampling.LANCZOS)


def _floor(build: Build, view: View) -> Iterator[list[Point]]:
    """The ground under the build's box, tile by tile."""
    low, high = _box(build, view)
    for x in range(low[0], high[0] + 1):
        for z in range(low[2], high[2] + 1):
            yield view.face((x, low[1] - 1, z), TOP)


def _ticks(build: Build, view: View) -> Iterator[tuple[Point, str, str]]:
    """Coordinates along the box's lower near edges and up its left one: where, what, and which point of the text stands there."""
    low, high = _box(build, view)
    sign = -1 if view.half_turn else 1
    flat = low[2] == high[2]
    for x in range(low[0], high[0] + 1):
        if x % TICK_EVERY == 0:
            at = view.at((x + 0.5, low[1], high[2] + 1))
            yield (at[0], at[1] + 5) if flat else (at[0] - 4, at[1] + 4), f"x={sign * x}", "ma" if flat else "ra"
    for z in () if flat else range(low[2], high[2] + 1):
        if z % TICK_EVERY == 0:
            at = view.at((high[0] + 1, low[1], z + 0.5))
            yield (at[0] + 4, at[1] + 4), f"z={sign * z}", "la"
    for y in dict.fromkeys((low[1], high[1])):
        at = view.at((low[0], y + 0.5, high[2] + 1))
        yield (at[0] - 6, at[1]), f"y={y}", "rm"


def _polygon(pen: ImageDraw.ImageDraw, points: list[Point], fill: tuple[int, ...], edge: tuple[int, ...], width: int) -> None:
    pen.polygon(points, fill=fill)
    pen.line([*points, points[0]], fill=edge, width=width, joint="curve")


def _legend(build: Build) -> list[tuple[RGB | None, RGB, str]]:
    rows: list[tuple[RGB | None, RGB, str]] = [
        (colour(block), shade(colour(block), 0.7), f"{visible(block)}  {count}") for block, count in build.counts()
    ]
    if build.target is not None:
        rows += [((248, 228, 226), RED, f"missing  {len(build.missing)}"), (None, RED, f"not asked for  {len(build.wrong)}")]
    return rows


def _write(pen: ImageDraw.ImageDraw, at: Point, text: str, ink: RGB, size: int, anchor: str = "la") -> None:
    pen.text(at, text, fill=ink, font=ImageFont.truetype(FONT, size), anchor=anchor)
