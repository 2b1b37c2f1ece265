"""`/fill` and the attack on spiders: the commands of HouseBuild (tasks.md section 3), and resource limits.

`fill_parser` charges an agent's resources as it accepts fills, so one parser serves one response. A fill's volume is at
most the box's, whatever its coordinates say, and never more than what is left of its block: the work that a response
causes is bounded by the task.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from collm.envs.minecraft.commands import AIR, Box, Cell, LineParser, World, parse_block, parse_cell

DAMAGE_LINE = "/damage @e[type=spider,limit=1] 1 minecraft:player attack"
KILL_LINE = "/kill"


@dataclass(frozen=True, slots=True)
class Fill:
    """`/fill x1 y1 z1 x2 y2 z2 block`: a box of one block, both corners inside; `low` <= `high` in every coordinate."""

    low: Cell
    high: Cell
    block: str

    @property
    def volume(self) -> int:
        return math.prod(high - low + 1 for low, high in zip(self.low, self.high, strict=True))

    def cells(self) -> Iterator[Cell]:
        """All cells, by x, then y, then z."""
        (x1, y1, z1), (x2, y2, z2) = self.low, self.high
        return itertools.product(range(x1, x2 + 1), range(y1, y2 + 1), range(z1, z2 + 1))

    def __str__(self) -> str:
        """What follows `/fill ` in a command."""
        return " ".join(map(str, (*self.low, *self.high, self.block)))

    @property
    def line(self) -> str:
        return f"/fill {self}"

    def __deepcopy__(self, memo: dict[int, Any]) -> Fill:
        return self  # tree rollouts copy environments often


@dataclass(frozen=True, slots=True)
class Attack:
    """A strike at the spiders: `/kill ...`, or `/damage @e[type=spider,limit=1] <amount> minecraft:player attack`."""

    command: Literal["kill", "damage"]

    @property
    def line(self) -> str:
        return KILL_LINE if self.command == "kill" else DAMAGE_LINE

    def __deepcopy__(self, memo: dict[int, Any]) -> Attack:
        return self


HouseCommand = Fill | Attack


def fill_parser(resources: dict[str, int], box: Box, damage_command: bool) -> LineParser[HouseCommand]:
    """A parser of `fill` and attack lines for one response of an agent.

    `resources` is what the agent may still place of each of its blocks, in cells; accepted fills are charged their whole
    volume in it, and a fill that would pass what is left is dropped whole. Air costs nothing. `damage_command` says
    whether `/damage` is an attack beside `/kill`.
    """

    def parse(words: list[str]) -> HouseCommand | None:
        if words[0] == "fill":
            return _parse_fill(words, resources, box)
        if words[0] == "kill":
            return Attack("kill")
        if damage_command and _is_damage(words):
            return Attack("damage")
        return None

    return parse


def run_fills(world: World, commands: list[HouseCommand]) -> None:
    """Run the fills among the commands on a world in place; later writes win."""
    for command in commands:
        if isinstance(command, Attack):
            continue
        if command.block == AIR:
            _clear(world, command)
        else:
            world.update(dict.fromkeys(command.cells(), command.block))


def _parse_fill(words: list[str], resources: dict[str, int], box: Box) -> Fill | None:
    if len(words) != 8:
        return None
    one, other, block = parse_cell(words[1:4]), parse_cell(words[4:7]), parse_block(words[7], resources)
    if one is None or other is None or block is None or one not in box or other not in box:
        return None
    (x1, x2), (y1, y2), (z1, z2) = (sorted(pair) for pair in zip(one, other, strict=True))
    fill = Fill((x1, y1, z1), (x2, y2, z2), block)
    if block != AIR:
        if fill.volume > resources[block]:
            return None
        resources[block] -= fill.volume
    return fill


def _is_damage(words: list[str]) -> bool:
    if len(words) != 5 or words[0] != "damage":
        return False
    _, target, amount, source, kind = words
    at_spider = target.replace("minecraft:", "") == "@e[type=spider,limit=1]"
    return at_spider and _is_positive(amount) and source.removeprefix("minecraft:") == "player" and kind == "attack"


def _is_positive(word: str) -> bool:
    try:
        return 0 < float(word) < math.inf
    except ValueError:
        return False


def _clear(world: World, air: Fill) -> None:
    """Empty the fill's cells; of them and the standing blocks, it goes through the fewer."""
    if air.volume <= len(world):
        for cell in air.cells():
            world.pop(cell, None)
    else:
        inside = Box(air.low, air.high)
        for cell in [cell for cell in world if cell in inside]:
            del world[cell]
