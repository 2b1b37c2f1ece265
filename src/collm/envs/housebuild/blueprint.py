"""Blueprints: what a house is to look like, read from a task row.

A row is like {"task_id": "house_build_0002", "inventory": {"C": "white_concrete", "A": "air"}, "count": {"C": 68, "A": 226},
"target_spec": {"type": "y_layers", "size": [x, y, z], "layers": [{"y": 0, "rows": ["CC..", ...]}, ...]}, "bbox": null}: a
layer's rows go along z, their characters along x. `count` may be left out; layers left out are air; `bbox`
({"from": [x, y, z], "to": [x, y, z]}) is null where the box is just `size`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from collm.envs.housebuild.rectangles import rectangles
from collm.envs.minecraft.commands import AIR, Box, Cell
from collm.envs.minecraft.fill import Fill
from collm.errors import DataError


@dataclass(frozen=True, slots=True, eq=False)
class Blueprint:
    """A house to build; immutable by convention."""

    cells: Mapping[Cell, str]
    """Target block of every cell that is not air."""
    box: Box
    """Blocks outside it are refused."""
    counts: Mapping[str, int]
    """Target cells of each block of the legend but air, in the legend's order."""
    rectangles: tuple[Fill, ...]
    """The target, air left out."""

    @property
    def volume(self) -> int:
        """Cells of the box, air included."""
        return math.prod(high - low + 1 for low, high in zip(self.box.low, self.box.high, strict=True))

    def __deepcopy__(self, memo: dict[int, Any]) -> Blueprint:
        return self  # tree rollouts copy environments often


def row_blueprint(row: object, where: str = "task") -> Blueprint:
    """The blueprint of a task row. Raises DataError, naming `where` and the field, for a row that HouseBuild cannot use."""
    row = _mapping(row, where)
    legend = _legend(_field(row, "inventory", where), f"{where}, field 'inventory'")
    spec = _mapping(_field(row, "target_spec", where), f"{where}, field 'target_spec'")
    place = f"{where}, field 'target_spec"
    if _field(spec, "type", f"{place}'") != "y_layers":
        raise DataError(f'{place}.type\': got {_shown(spec["type"])}; blueprints are of type "y_layers"')
    size = _cell(_field(spec, "size", f"{place}'"), f"{place}.size'")
    if min(size) < 1:
        raise DataError(f"{place}.size': {list(size)} has a side below 1; give [x, y, z] cells")
    characters = _characters(_field(spec, "layers", f"{place}'"), size, f"{place}.layers")
    counted = Counter(characters.values())
    for character in counted:
        if character not in legend:
            known = ", ".join(legend)
            raise DataError(f"{place}.layers': character {character!r} is not in the inventory ({known}); add it there")
    cells = {cell: legend[character] for cell, character in characters.items() if legend[character] != AIR}
    if not cells:
        raise DataError(f"{place}.layers': every cell is air; a house needs at least one block")
    _check_counts(row, counted, legend, math.prod(size), f"{where}, field 'count'")
    box = _box(row, size, where)
    outside = next((cell for cell in cells if cell not in box), None)
    if outside is not None:
        raise DataError(f"{where}, field 'bbox': the blueprint's cell {list(outside)} lies outside it; widen it or set it to null")
    blocks = Counter(cells.values())
    return Blueprint(cells, box, {block: blocks[block] for block in legend.values() if block != AIR}, rectangles(cells))


def _characters(layers: object, size: Cell, place: str) -> dict[Cell, str]:
    """The character of every cell of the given layers."""
    if not isinstance(layers, list | tuple):
        raise DataError(f'{place}\': expected a list like [{{"y": 0, "rows": ["CC"]}}], got {_shown(layers)}')
    width, height, depth = size
    found: dict[Cell, str] = {}
    seen: set[int] = set()
    for i, entry in enumerate(layers):
        at = f"{place}.{i}"
        layer = _mapping(entry, f"{at}'")
        y, rows = _field(layer, "y", f"{at}'"), _field(layer, "rows", f"{at}'")
        if not _is_int(y) or not 0 <= y < height:
            raise DataError(f"{at}.y': got {_shown(y)}; give a whole number from 0 to {height - 1}, as size says")
        if y in seen:
            raise DataError(f"{at}.y': layer {y} is given twice; leave one out")
        seen.add(y)
        if not isinstance(rows, list | tuple) or len(rows) != depth:
            raise DataError(f"{at}.rows': expected {depth} rows, one per z, as size says; got {_shown(rows)}")
        for z, text in enumerate(rows):
            if not isinstance(text, str) or len(text) != width:
                raise DataError(f"{at}.rows.{z}': expected {width} characters, one per x, as size says; got {_shown(text)}")
            found.update({(x, y, z): character for x, character in enumerate(text)})
    return found


def _legend(value: object, where: str) -> dict[str, str]:
    legend: dict[str, str] = {}
    for character, block in _mapping(value, where).items():
        if not isinstance(character, str) or len(character) != 1:
            raise DataError(f"{where}: {_shown(character)} is not one character; the keys are the characters of the rows")
        if not isinstance(block, str) or block.split() != [block]:
            raise DataError(f"{where}: the block of {character!r} is {_shown(block)}; write an id without spaces, for example stone")
        legend[character] = block.removeprefix("minecraft:")
    return legend


def _check_counts(row: Mapping[str, Any], counted: Counter[str], legend: Mapping[str, str], volume: int, where: str) -> None:
    """`count` says how many cells each character has; layers left out count as air."""
    if row.get("count") is None:
        return
    left_out = volume - counted.total()
    for character, given in _mapping(row["count"], where).items():
        if character not in legend:
            raise DataError(f"{where}: character {_shown(character)} is not in the inventory ({', '.join(legend)})")
        found = counted[character]
        right = (found, found + left_out) if legend[character] == AIR else (found,)
        if given not in right:
            raise DataError(f"{where}: {character!r} is {_shown(given)} and the layers have {found}; correct it or leave it out")


def _box(row: Mapping[str, Any], size: Cell, where: str) -> Box:
    if row.get("bbox") is None:
        return Box((0, 0, 0), (size[0] - 1, size[1] - 1, size[2] - 1))
    place = f"{where}, field 'bbox"
    bbox = _mapping(row["bbox"], f"{place}'")
    low, high = (_cell(_field(bbox, end, f"{place}'"), f"{place}.{end}'") for end in ("from", "to"))
    if any(a > b for a, b in zip(low, high, strict=True)):
        raise DataError(f"{place}': from {list(low)} is beyond to {list(high)}; swap their coordinates")
    return Box(low, high)


def _cell(value: object, where: str) -> Cell:
    if not isinstance(value, list | tuple) or len(value) != 3 or not all(map(_is_int, value)):
        raise DataError(f"{where}: expected three whole numbers [x, y, z], got {_shown(value)}")
    x, y, z = value
    return x, y, z


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _mapping(value: object, where: str) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise DataError(f"{where}: expected an object with fields, got {_shown(value)}")
    return value


def _field(row: Mapping[str, Any], name: str, where: str) -> Any:
    if name not in row:
        raise DataError(f"{where}: field {name!r} is missing (fields: {', '.join(map(str, row)) or 'none'})")
    return row[name]


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
