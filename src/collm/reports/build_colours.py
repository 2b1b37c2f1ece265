"""A colour for every block id: for well-known blocks near the mean of their texture, for others by material or by name.

Colours are kept apart where textures are alike (stone and stone_bricks), since a reader has to tell them from a legend.
"""

from __future__ import annotations

import colorsys
import zlib

RGB = tuple[int, int, int]

_BLOCKS: dict[str, RGB] = {
    "oak_planks": (184, 148, 95),
    "planks": (184, 148, 95),
    "spruce_planks": (122, 90, 52),
    "birch_planks": (214, 198, 141),
    "jungle_planks": (178, 126, 92),
    "acacia_planks": (184, 102, 56),
    "dark_oak_planks": (76, 50, 24),
    "stone": (136, 136, 136),
    "smooth_stone": (168, 168, 168),
    "stone_bricks": (112, 116, 122),
    "stone_stairs": (160, 160, 156),
    "cobblestone": (120, 118, 114),
    "obsidian": (38, 26, 58),
    "white_concrete": (226, 229, 230),
    "glass": (190, 224, 232),
    "bricks": (160, 92, 76),
    "gold_block": (248, 214, 72),
    "iron_block": (222, 222, 222),
    "diamond_block": (104, 224, 218),
    "emerald_block": (50, 200, 96),
    "glowstone": (238, 196, 110),
    "quartz_block": (228, 212, 190),
    "sandstone": (218, 206, 160),
    "dirt": (134, 96, 67),
    "grass_block": (112, 160, 72),
    "oak_log": (112, 88, 54),
    "oak_leaves": (72, 116, 44),
    "water": (64, 104, 208),
    "lava": (222, 106, 22),
}
_DYES: dict[str, RGB] = {
    "white": (232, 235, 236),
    "light_gray": (150, 150, 142),
    "gray": (66, 70, 74),
    "black": (24, 24, 28),
    "brown": (110, 70, 40),
    "red": (166, 44, 38),
    "orange": (236, 124, 28),
    "yellow": (246, 200, 44),
    "lime": (112, 184, 30),
    "green": (86, 112, 32),
    "cyan": (26, 138, 146),
    "light_blue": (62, 176, 220),
    "blue": (52, 58, 156),
    "purple": (122, 42, 172),
    "magenta": (186, 68, 178),
    "pink": (236, 142, 172),
}
_MATERIALS: dict[str, RGB] = {
    "planks": (176, 138, 90),
    "wood": (120, 92, 58),
    "log": (120, 92, 58),
    "leaves": (78, 122, 52),
    "stone": (140, 140, 138),
    "bricks": (150, 104, 92),
    "stairs": (156, 150, 144),
    "slab": (160, 156, 150),
}


def colour(block: str) -> RGB:
    """Red, green and blue, 0 to 255, of a block id without `minecraft:`; the same for the same id, always."""
    if block in _BLOCKS:
        return _BLOCKS[block]
    # The longest name first: light_gray_wool is not gray.
    for dye in sorted(_DYES, key=lambda name: (-len(name), name)):
        if block.startswith(f"{dye}_"):
            return _DYES[dye]
    material = block.rpartition("_")[2]
    if material in _MATERIALS:
        return _MATERIALS[material]
    hue = zlib.crc32(block.encode("utf-8", "backslashreplace")) % 360 / 360
    red, green, blue = colorsys.hls_to_rgb(hue, 0.55, 0.45)
    return round(255 * red), round(255 * green), round(255 * blue)


def shade(rgb: RGB, factor: float) -> RGB:
    """Darker (factor < 1) or lighter, within what a colour can be."""
    red, green, blue = (min(255, max(0, round(c * factor))) for c in rgb)
    return red, green, blue


def is_light(rgb: RGB) -> bool:
    """Whether black is easier to read on it than white (relative luminance by ITU-R BT.601 above one half)."""
    return 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2] > 127.5
