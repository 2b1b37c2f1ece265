"""The numbers of a StrBuild task, resolved from its configuration in this one place.

Source: tasks.md, StrBuild. Profile `paper` follows the paper, `comlrl` the released environment (v1.3.6); a setting given
in the configuration wins over the profile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from collm.config.tasks import StrBuildTask
from collm.envs.minecraft.commands import AIR, split_limit
from collm.errors import ConfigError

DEFAULT_PALETTES = (
    ("oak_planks", "stone"),
    ("white_concrete", "obsidian"),
    ("glass", "bricks"),
    ("red_wool", "gold_block"),
    ("glowstone", "quartz_block"),
)


@dataclass(frozen=True, slots=True)
class ProfileNumbers:
    """What a profile decides where the configuration says null."""

    adjacency_weight: float
    palette_weight: float
    extra_cells: Literal["target", "non_target"]
    show_target: bool
    blank_unknown: bool
    """Strings are upper-cased and characters without a glyph left blank, instead of being refused."""


PROFILES = {
    "paper": ProfileNumbers(adjacency_weight=0.5, palette_weight=0.0, extra_cells="target", show_target=True, blank_unknown=False),
    "comlrl": ProfileNumbers(adjacency_weight=1.0, palette_weight=0.25, extra_cells="non_target", show_target=False, blank_unknown=True),
}


@dataclass(frozen=True, slots=True)
class Rules:
    """A StrBuild task for a given number of agents, nothing left to decide."""

    turns: int
    feedback: Literal["position", "perfect", "score"]
    world: Literal["reset", "persistent"]
    palettes: tuple[tuple[str, ...], ...]
    limits: tuple[int, ...]
    """Accepted commands per turn of each agent."""
    coverage_weight: float
    extra_weight: float
    adjacency_weight: float
    palette_weight: float
    extra_cells: Literal["target", "non_target"]
    show_target: bool
    blank_unknown: bool
    solved_above: float

    @property
    def n_agents(self) -> int:
        return len(self.palettes)

    def __deepcopy__(self, memo: dict[int, Any]) -> Rules:
        return self  # immutable throughout; tree rollouts copy environments often


def resolve_rules(task: StrBuildTask, n_agents: int) -> Rules:
    """The rules of `task` for `n_agents` agents. Raises ConfigError naming the setting that does not fit."""
    numbers = PROFILES[task.profile]
    if task.coverage_weight <= 0:
        raise ConfigError(f"task.coverage_weight={task.coverage_weight} must be above 0: it is the largest score and scales m_t")
    if task.max_commands < n_agents:
        raise ConfigError(f"task.max_commands={task.max_commands} leaves some of {n_agents} agents no command; give at least {n_agents}")
    return Rules(
        turns=task.turns,
        feedback=task.feedback,
        world=task.world,
        palettes=_palettes(task, n_agents),
        limits=split_limit(task.max_commands, n_agents),
        coverage_weight=task.coverage_weight,
        extra_weight=task.extra_weight,
        adjacency_weight=numbers.adjacency_weight if task.adjacency_weight is None else task.adjacency_weight,
        palette_weight=numbers.palette_weight if task.palette_weight is None else task.palette_weight,
        extra_cells=numbers.extra_cells if task.extra_cells is None else task.extra_cells,
        show_target=numbers.show_target if task.show_target is None else task.show_target,
        blank_unknown=numbers.blank_unknown,
        solved_above=task.solved_above,
    )


def _palettes(task: StrBuildTask, n_agents: int) -> tuple[tuple[str, ...], ...]:
    if n_agents < 1:
        raise ConfigError(f"StrBuild needs at least one agent, got {n_agents}; list agents in the configuration")
    if task.palettes is None:
        if n_agents > len(DEFAULT_PALETTES):
            raise ConfigError(
                f"StrBuild has palettes of its own for up to {len(DEFAULT_PALETTES)} agents, not for {n_agents}; "
                "give task.palettes, one list of block ids per agent"
            )
        return DEFAULT_PALETTES[:n_agents]
    if len(task.palettes) != n_agents:
        raise ConfigError(f"task.palettes names {len(task.palettes)} palettes for {n_agents} agents; give one per agent")
    return tuple(_palette(f"task.palettes.{i}", blocks) for i, blocks in enumerate(task.palettes))


def _palette(where: str, blocks: list[str]) -> tuple[str, ...]:
    if not blocks:
        raise ConfigError(f"{where} is empty; give at least one block id, for example stone")
    ids = tuple(block.removeprefix("minecraft:") for block in blocks)
    for block in ids:
        if not block or block.split() != [block]:
            raise ConfigError(f"{where}: {block!r} is not a block id; write it without spaces, for example oak_planks")
        if block == AIR:
            raise ConfigError(f"{where}: air is always allowed and no block of a palette; leave it out")
    if len(set(ids)) < len(ids):
        raise ConfigError(f"{where} names a block twice: {', '.join(ids)}; leave the second out")
    return ids
