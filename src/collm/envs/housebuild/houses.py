"""Houses from parameters, in the blueprint format; the ten built-in ones among them.

A house is a floor and walls of concrete with a pillar at each corner and a door in the middle of the front, set back by
one row of z at the front and the back, under a roof that covers the whole ground: a layer of eaves, then layers that
narrow as the roof's form says. y is up; z = 0 is the front.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Roof = Literal["gable", "flat", "steep", "x_slope", "hip"]

CONCRETE, PILLAR, STAIRS, BRICKS, DOOR, EMPTY = "C", "O", "S", "B", "D", "A"
"""Legend characters of a blueprint."""

BLOCKS = {
    CONCRETE: "white_concrete",
    PILLAR: "obsidian",
    STAIRS: "stone_stairs",
    BRICKS: "stone_bricks",
    DOOR: "planks",
    EMPTY: "air",
}


@dataclass(frozen=True, slots=True)
class House:
    """The parameters of a house."""

    roof: Roof
    width: int = 6
    """Cells along x, at least 4."""
    depth: int = 7
    """Cells along z, eaves included, at least 5."""
    walls: int = 3
    """Layers of wall above the floor, at least 1."""
    roof_layers: int = 2
    """Layers of roof above the eaves."""

    @property
    def height(self) -> int:
        return 1 + self.walls + 1 + self.roof_layers

    @property
    def ridge(self) -> range:
        """The middle columns: two, or one where the width is odd. The door stands there, and a roof sloped along x ends there."""
        return range((self.width - 1) // 2, self.width // 2 + 1)


def layer_rows(house: House, y: int) -> list[str]:
    """The rows of layer y as a blueprint has them: row = z, column = x."""
    character = _wall if y <= house.walls else _roof
    return ["".join(character(house, x, y, z) for x in range(house.width)) for z in range(house.depth)]


def house_row(task_id: str, house: House, variant: str | None = None, blocks: dict[str, str] | None = None) -> dict[str, Any]:
    """A task row for a house; `blocks` gives other block ids for the legend's characters."""
    layers = [{"y": y, "rows": layer_rows(house, y)} for y in range(house.height)]
    text = "".join(row for layer in layers for row in layer["rows"])
    return {
        "task_id": task_id,
        "inventory": {**BLOCKS, **(blocks or {})},
        "count": {character: text.count(character) for character in BLOCKS},
        "target_spec": {"type": "y_layers", "size": [house.width, house.height, house.depth], "layers": layers},
        "bbox": None,
        **({} if variant is None else {"variant": variant}),
    }


def _wall(house: House, x: int, y: int, z: int) -> str:
    """Floor (y = 0) and walls; the wall's top layer closes the door's opening."""
    front, back = 1, house.depth - 2
    if not front <= z <= back:
        return EMPTY
    if y == 0:
        return CONCRETE
    at_end, at_side = z in (front, back), x in (0, house.width - 1)
    if at_end and at_side:
        return PILLAR
    if z == front and x in house.ridge and y < max(2, house.walls):
        return DOOR if y == 1 else EMPTY
    return CONCRETE if at_end or at_side else EMPTY


def _roof(house: House, x: int, y: int, z: int) -> str:
    """Layer k of the roof is a rectangle narrowed by the form's insets; its sloped sides are stairs, the rest bricks."""
    k = y - house.walls - 1
    if k == 0:
        return STAIRS if z in (0, house.depth - 1) else BRICKS
    inset_x, inset_z = _insets(house.roof, k)
    first, last = inset_z, house.depth - 1 - inset_z
    if not (first <= z <= last and inset_x <= x <= house.width - 1 - inset_x):
        return EMPTY
    slopes_z, slopes_x = house.roof in ("gable", "steep", "hip"), house.roof in ("x_slope", "hip")
    at_slope_z = slopes_z and z in (first, last) and first < last
    return STAIRS if at_slope_z or (slopes_x and x not in house.ridge) else BRICKS


def _insets(roof: Roof, k: int) -> tuple[int, int]:
    """Cells by which layer k (from 1) is narrower at each end, along x and along z."""
    match roof:
        case "flat":
            return 0, 0
        case "gable":
            return 0, k
        case "steep":
            return 0, k + 1
        case "x_slope":
            return k - 1, 0
        case "hip":
            return k, k


_BUILT_IN: tuple[tuple[str, Roof, str | None], ...] = (
    ("house_build_0002", "gable", None),
    ("house_build_0101", "flat", "flat_north"),
    ("house_build_0102", "flat", "flat_south"),
    ("house_build_0103", "flat", "flat_clear"),
    ("house_build_0104", "steep", "steep_north"),
    ("house_build_0105", "steep", "steep_south"),
    ("house_build_0106", "x_slope", "x_slope_north"),
    ("house_build_0107", "x_slope", "x_slope_south"),
    ("house_build_0108", "hip", "hip_clear"),
    ("house_build_0109", "hip", "hip_north"),
)

BUILT_IN_ROWS: tuple[dict[str, Any], ...] = tuple(house_row(task_id, House(roof), variant) for task_id, roof, variant in _BUILT_IN)
"""The ten houses of the paper: rows 0:8 train, 8:10 test. Variants of one roof differ in name only."""
