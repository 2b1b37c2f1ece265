"""Lists of block ids per agent, as a configuration gives them."""

from __future__ import annotations

from collections.abc import Sequence

from collm.envs.minecraft.commands import AIR
from collm.errors import ConfigError


def checked_palettes(palettes: Sequence[Sequence[str]], n_agents: int) -> tuple[tuple[str, ...], ...]:
    """`task.palettes` without `minecraft:`. Raises ConfigError naming the palette that does not fit."""
    if len(palettes) != n_agents:
        raise ConfigError(f"task.palettes names {len(palettes)} palettes for {n_agents} agents; give one per agent")
    return tuple(_palette(f"task.palettes.{i}", blocks) for i, blocks in enumerate(palettes))


def _palette(where: str, blocks: Sequence[str]) -> tuple[str, ...]:
    if not blocks:
        raise ConfigError(f"{where} is empty; give at least one block id, for example stone")
    ids = tuple(block.removeprefix("minecraft:") for block in blocks)
    for block in ids:
        if block.split() != [block]:
            raise ConfigError(f"{where}: {block!r} is not a block id; write it without spaces, for example oak_planks")
        if block == AIR:
            raise ConfigError(f"{where}: air is always allowed and no block of a palette; leave it out")
    if len(set(ids)) < len(ids):
        raise ConfigError(f"{where} names a block twice: {', '.join(ids)}; leave the second out")
    return ids
