"""The numbers of a HouseBuild task, resolved from its configuration in this one place.

Source: tasks.md, HouseBuild. Profile `paper` follows the paper, `comlrl` the released environment (v1.3.6); a setting given
in the configuration wins over the profile.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from collm.config.tasks.housebuild import HouseBuildFeedback, HouseBuildTask
from collm.envs.minecraft.commands import split_limit
from collm.envs.minecraft.palettes import checked_palettes
from collm.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ProfileNumbers:
    """What a profile decides where the configuration says null."""

    score: Literal["coverage", "match"]
    spider_weight: float
    spider_draw: Literal["episode", "run"]
    spiders_last: bool
    spiders_min_agents: int
    kill_reach: Literal["one", "all"]
    damage_command: bool
    ends_when_built: bool


PROFILES = {
    "paper": ProfileNumbers(
        score="coverage",
        spider_weight=0.2,
        spider_draw="episode",
        spiders_last=True,
        spiders_min_agents=1,
        kill_reach="one",
        damage_command=True,
        ends_when_built=True,
    ),
    "comlrl": ProfileNumbers(
        score="match",
        spider_weight=0.1,
        spider_draw="run",
        spiders_last=False,
        spiders_min_agents=2,
        kill_reach="all",
        damage_command=False,
        ends_when_built=False,
    ),
}


@dataclass(frozen=True, slots=True)
class SpiderRules:
    """How spiders are drawn and what they and the attacks on them do. Each living spider attacks every player once a turn."""

    count: int
    attack: tuple[int, int]
    """Smallest and largest attack, both possible."""
    player_hp: float
    spider_hp: int
    """In attack commands."""
    seed: int | None
    """Of attacks that are drawn once per run; None = they are drawn per episode."""
    last: bool
    """Damage and dead spiders last over the turns."""
    reach: Literal["one", "all"]


@dataclass(frozen=True, slots=True)
class Rules:
    """A HouseBuild task for a given number of agents, nothing left to decide."""

    turns: int
    feedback: HouseBuildFeedback
    shown_cells: int
    world: Literal["reset", "persistent"]
    palettes: tuple[tuple[str, ...], ...] | None
    """Per agent; None = every block of the blueprint."""
    limits: tuple[int, ...]
    """Accepted commands per turn of each agent."""
    resource_slack: float
    score: Literal["coverage", "match"]
    coverage_weight: float
    extra_weight: float
    match_weight: float
    spider_weight: float
    spiders: SpiderRules | None
    """None where the team meets none."""
    damage_command: bool
    ends_when_built: bool

    @property
    def n_agents(self) -> int:
        return len(self.limits)

    @property
    def max_reward(self) -> float:
        """Of a turn."""
        return self.coverage_weight if self.score == "coverage" else self.match_weight

    def resources(self, agent: int, counts: Mapping[str, int]) -> dict[str, int]:
        """What agent number `agent` may place of each of its blocks in a turn, in cells; `counts` are the blueprint's."""
        n = self.n_agents
        blocks = counts if self.palettes is None else self.palettes[agent]
        return {b: -(-counts.get(b, 0) // n) + math.floor(counts.get(b, 0) * self.resource_slack / n) for b in blocks}

    def __deepcopy__(self, memo: dict[int, Any]) -> Rules:
        return self  # immutable throughout; tree rollouts copy environments often


def resolve_rules(task: HouseBuildTask, n_agents: int) -> Rules:
    """The rules of `task` for `n_agents` agents. Raises ConfigError naming the setting that does not fit."""
    numbers = PROFILES[task.profile]
    if n_agents < 1:
        raise ConfigError(f"HouseBuild needs at least one agent, got {n_agents}; list agents in the configuration")
    if task.max_commands < n_agents:
        raise ConfigError(f"task.max_commands={task.max_commands} leaves some of {n_agents} agents no command; give at least {n_agents}")
    rules = Rules(
        turns=task.turns,
        feedback=task.feedback,
        shown_cells=task.shown_cells,
        world=task.world,
        palettes=None if task.palettes is None else checked_palettes(task.palettes, n_agents),
        limits=split_limit(task.max_commands, n_agents),
        resource_slack=task.resource_slack,
        score=numbers.score if task.score is None else task.score,
        coverage_weight=task.coverage_weight,
        extra_weight=task.extra_weight,
        match_weight=task.match_weight,
        spider_weight=numbers.spider_weight if task.spider_weight is None else task.spider_weight,
        spiders=_spider_rules(task, numbers, n_agents),
        damage_command=numbers.damage_command if task.damage_command is None else task.damage_command,
        ends_when_built=numbers.ends_when_built if task.ends_when_built is None else task.ends_when_built,
    )
    if rules.max_reward <= 0:
        name = f"{rules.score}_weight"
        raise ConfigError(f"task.{name}={rules.max_reward} must be above 0: it is the largest score and scales m_t")
    return rules


def _spider_rules(task: HouseBuildTask, numbers: ProfileNumbers, n_agents: int) -> SpiderRules | None:
    fewest = numbers.spiders_min_agents if task.spiders_min_agents is None else task.spiders_min_agents
    if n_agents < fewest:
        return None
    draw = numbers.spider_draw if task.spider_draw is None else task.spider_draw
    return SpiderRules(
        count=task.spiders,
        attack=(task.spider_attack_min, task.spider_attack_max),
        player_hp=task.player_hp,
        spider_hp=task.spider_hp,
        seed=task.spider_seed if draw == "run" else None,
        last=numbers.spiders_last if task.spiders_last is None else task.spiders_last,
        reach=numbers.kill_reach if task.kill_reach is None else task.kill_reach,
    )
