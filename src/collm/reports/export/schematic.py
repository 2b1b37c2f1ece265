"""A build as a Sponge schematic (`.schem`), which WorldEdit, FAWE, Amulet and others open."""

from __future__ import annotations

from pathlib import Path

import mcschematic

from collm.reports.build import Build
from collm.reports.export.block_ids import game_id

VERSION = mcschematic.Version.JE_1_20_4
"""The game version that the file names. Editors bring an older file up to date; of a newer one they may not read a thing."""


def write_schematic(build: Build, folder: Path, name: str) -> Path:
    """Write `folder/name.schem`; cells keep their coordinates relative to where it is pasted.

    Raises DataError for a block id that the game would not read.
    """
    schematic = mcschematic.MCSchematic()
    for cell, block in sorted(build.blocks.items()):
        schematic.setBlock(cell, game_id(block))
    schematic.save(str(folder), name, VERSION)
    return folder / f"{name}.schem"
