"""From cells to the picture's plane: how a build is turned, and where a point of it lands.

A build of one cell's depth is seen from the front, from the side of high z, where x runs to the right and a word reads as
it should; a little of its tops and right sides shows. Any other is seen in isometric projection from above its corner of
low x and low z, which is where HouseBuild's doors are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from collm.reports.build import Build, Cell

Point = tuple[float, float]
Corner = tuple[float, float, float]
Face = tuple[Corner, Corner, Corner, Corner]

DEPTH = 0.38
"""Length of an edge into the picture, seen from the front, in cells."""

# Corners of a unit cube's three visible faces; the viewer looks from high x, y and z.
TOP: Face = ((0, 1, 0), (1, 1, 0), (1, 1, 1), (0, 1, 1))
FRONT: Face = ((0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1))
SIDE: Face = ((1, 0, 0), (1, 0, 1), (1, 1, 1), (1, 1, 0))


@dataclass(frozen=True, slots=True)
class View:
    """A turned build's place in the plane: `right`, `up` and `near` are where one cell of x, y and z leads, in pixels, y down."""

    right: Point
    up: Point
    near: Point
    half_turn: bool
    """Whether the build is turned by 180 degrees about the vertical first."""

    def turned(self, cell: Cell) -> Cell:
        """The cell as the viewer has it."""
        x, y, z = cell
        return (-x, y, -z) if self.half_turn else cell

    def at(self, corner: Corner) -> Point:
        """Where a corner, in turned coordinates, lands relative to the origin's."""
        x, y, z = corner
        return (
            x * self.right[0] + y * self.up[0] + z * self.near[0],
            x * self.right[1] + y * self.up[1] + z * self.near[1],
        )

    def face(self, cell: Cell, corners: Face) -> list[Point]:
        """Where a face of a turned cell lands."""
        x, y, z = cell
        return [self.at((x + dx, y + dy, z + dz)) for dx, dy, dz in corners]

    def bounds(self, low: Cell, high: Cell) -> tuple[Point, Point]:
        """The least and the greatest coordinates of a box of turned cells, both corners inside."""
        ends = [(a, b + 1) for a, b in zip(low, high, strict=True)]
        points = [self.at((x, y, z)) for x in ends[0] for y in ends[1] for z in ends[2]]
        return (min(p[0] for p in points), min(p[1] for p in points)), (max(p[0] for p in points), max(p[1] for p in points))


def choose_view(build: Build, size: float) -> View:
    """How a build is looked at; `size` is a cell's edge in pixels."""
    low, high = build.box
    if low[2] == high[2]:
        return View((size, 0.0), (0.0, -size), (-DEPTH * size, DEPTH * size), half_turn=False)
    across, down = size * math.cos(math.radians(30)), size * math.sin(math.radians(30))
    return View((across, down), (0.0, -size), (-across, down), half_turn=True)
