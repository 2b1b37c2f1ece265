"""Spiders and health: who lives, and what a turn costs the players (tasks.md, HouseBuild).

A turn: the attack commands strike, then every spider that still lives attacks every player once. Spiders are struck in
their order, each until its hp is used up; with reach "all" any attack drives all of them away. With `last` damage adds up
over the turns and dead spiders stay dead; without, every turn starts with full health and all spiders.

lost = min(1, damage / hp) is the share of a player's health that is gone; 0 where hp <= 0, as in the released code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from collm.envs.housebuild.rules import SpiderRules
from collm.errors import DataError

MOST = 1_000_000
"""The largest attack and health a row may give, in size."""


@dataclass(frozen=True, slots=True)
class Threat:
    """The spiders' attacks and the players' health at the beginning of an episode."""

    attacks: tuple[float, ...] = ()
    player_hp: float = 1.0


@dataclass(frozen=True, slots=True)
class Battle:
    """How things stand after `turns` turns."""

    threat: Threat
    hits_left: tuple[int, ...]
    """Attack commands each spider still takes; 0 = dead."""
    turn_damage: float = 0.0
    """Damage of the last turn to each player."""
    damage: float = 0.0
    """Damage that counts: the last turn's, or all turns' where it lasts."""
    turns: int = 0
    health_sum: float = 0.0
    """Sum over the turns of the share of health left after them."""

    @property
    def living(self) -> tuple[int, ...]:
        """Numbers of the living spiders, from 0."""
        return tuple(i for i, hits in enumerate(self.hits_left) if hits)

    @property
    def lost(self) -> float:
        """min(1, damage / hp)."""
        hp = self.threat.player_hp
        return min(1.0, self.damage / hp) if hp > 0 else 0.0

    @property
    def health_left(self) -> float:
        """In points, at least 0."""
        return max(0.0, self.threat.player_hp - self.damage)

    @property
    def health(self) -> float:
        """Share of health left, averaged over the turns; every player's is the same. 1 before the first turn."""
        return self.health_sum / self.turns if self.turns else 1.0

    def __deepcopy__(self, memo: dict[int, Any]) -> Battle:
        return self  # tree rollouts copy environments often


def meet(threat: Threat, rules: SpiderRules | None) -> Battle:
    """Before the first turn."""
    return Battle(threat, (rules.spider_hp,) * len(threat.attacks) if rules else ())


def fight(battle: Battle, strikes: int, rules: SpiderRules | None) -> Battle:
    """After one more turn, in which the agents gave `strikes` attack commands."""
    before = meet(battle.threat, rules) if rules is not None and not rules.last else battle
    hits_left = _strike(before.hits_left, strikes, rules)
    turn_damage = math.fsum(a for a, hits in zip(battle.threat.attacks, hits_left, strict=True) if hits)
    after = replace(battle, hits_left=hits_left, turn_damage=turn_damage, damage=before.damage + turn_damage, turns=battle.turns + 1)
    return replace(after, health_sum=battle.health_sum + 1.0 - after.lost)


def _strike(hits_left: tuple[int, ...], strikes: int, rules: SpiderRules | None) -> tuple[int, ...]:
    if rules is not None and rules.reach == "all" and strikes:
        return (0,) * len(hits_left)
    left: list[int] = []
    for hits in hits_left:
        taken = min(hits, strikes)
        strikes -= taken
        left.append(hits - taken)
    return tuple(left)


def draw_attacks(rng: np.random.Generator, rules: SpiderRules) -> tuple[int, ...]:
    """A uniform integer per spider."""
    low, high = rules.attack
    return tuple(int(a) for a in rng.integers(low, high, size=rules.count, endpoint=True))


def row_spiders(row: Mapping[str, Any], where: str = "task") -> tuple[tuple[float, ...] | None, float | None]:
    """The fields `spiders` (a list of attacks) and `player_hp` of a row; None where a field is left out or null.

    Raises DataError naming `where` and the field.
    """
    spiders, hp = row.get("spiders"), row.get("player_hp")
    if spiders is not None:
        if not isinstance(spiders, list | tuple):
            raise DataError(f"{where}, field 'spiders': expected a list of attacks like [1, 3, 2], got {str(spiders)[:60]!r}")
        for i, attack in enumerate(spiders):
            if not _is_number(attack) or not 0 <= attack <= MOST:
                raise DataError(f"{where}, field 'spiders.{i}': got {str(attack)[:60]!r}; an attack is a number from 0 to {MOST}")
    if hp is not None and (not _is_number(hp) or not -MOST <= hp <= MOST):
        raise DataError(f"{where}, field 'player_hp': got {str(hp)[:60]!r}; give a number from {-MOST} to {MOST}")
    return (None if spiders is None else tuple(spiders)), hp


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
