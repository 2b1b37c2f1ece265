"""Block ids as the game knows them."""

from __future__ import annotations

import re

from collm.errors import DataError

_ID = re.compile(r"(?:[a-z0-9_.-]+:)?[a-z0-9_./-]+(?:\[[a-z0-9_=,]*\])?")
_RENAMED = {
    "planks": "oak_planks",
    "log": "oak_log",
    "leaves": "oak_leaves",
    "wool": "white_wool",
    "concrete": "white_concrete",
    "stained_glass": "white_stained_glass",
    "stonebrick": "stone_bricks",
    "brick_block": "bricks",
}
"""Ids of before Minecraft 1.13, which the blueprints of HouseBuild use too, that name no block today."""


def game_id(block: str) -> str:
    """`minecraft:oak_planks` for `oak_planks` or `planks`; another name space is kept.

    Raises DataError for a text that Minecraft does not read as a block id: it would refuse the whole file.
    """
    if not _ID.fullmatch(block):
        raise DataError(f"block {block!r} is no Minecraft block id, so it cannot be exported; ids are lower case, for example oak_planks")
    block = _RENAMED.get(block, block)
    return block if ":" in block else f"minecraft:{block}"
