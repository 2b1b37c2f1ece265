"""A build as a Minecraft function: put the file into a data pack and call it, and the build stands where the caller does.

Format: https://minecraft.wiki/w/Function_(Java_Edition); one command a line, no slash, `#` begins a comment.
"""

from __future__ import annotations

from collm.reports.build import Build
from collm.reports.export.block_ids import game_id


def mcfunction_text(build: Build, caption: str) -> str:
    """One `setblock` per block, relative to the caller, from the ground up; the same build gives the same text.

    Raises DataError for a block id that the game would not read.
    """
    order = sorted(build.blocks.items(), key=lambda item: (item[0][1], item[0][2], item[0][0]))
    lines = [f"setblock ~{x} ~{y} ~{z} {game_id(block)}" for (x, y, z), block in order]
    comment = " ".join(caption.split())
    return "\n".join([f"# {comment}", *lines]) + "\n"
