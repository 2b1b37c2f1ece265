"""Minecraft command text: which lines of a response count, and what they do to a world.

Source: tasks.md "3. Minecraft: Common rules"; the details below that are silent there follow the recorded outputs
(`shared/oracles/strbuild.public.jsonl`). Nothing here raises on any text: a bad line is dropped by itself. All of it is
linear in the length of the text.

A task's command set is one line parser (`LineParser`): it gets the words of a line, the command word lower-cased and
without its slash, and returns the command or None. StrBuild has `setblock_parser`, HouseBuild those of
`collm.envs.minecraft.fill`; `accepted_commands` does the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import TypeVar

Cell = tuple[int, int, int]
"""Block coordinates (x, y, z), y up."""

World = dict[Cell, str]
"""Blocks by cell; air is absence."""

AIR = "air"

_FENCE = "```"
_LIST_MARK = re.compile(r"(?:[-*]+|\d+[.)])\s*")
_LONE_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Box:
    """An axis-aligned box of cells, both corners inside."""

    low: Cell
    high: Cell

    def __contains__(self, cell: Cell) -> bool:
        # Asked for every line of every response.
        (x0, y0, z0), (x, y, z), (x1, y1, z1) = self.low, cell, self.high
        return x0 <= x <= x1 and y0 <= y <= y1 and z0 <= z <= z1


@dataclass(frozen=True, slots=True)
class Setblock:
    """`/setblock x y z block`: puts one block, or clears the cell for air."""

    cell: Cell
    block: str


Command = TypeVar("Command")

LineParser = Callable[[list[str]], Command | None]
"""Words of one line (command word first) -> the command, or None where the line is not an allowed one."""


def fenced_text(text: str) -> str:
    """The text inside the first pair of code fences, or the whole text where there is no pair.

    A lone word on the first line that is not blank is taken for the language tag and dropped (even where it is a bare
    `kill`, as in the recorded outputs); a tag followed by anything else stays and makes a bad line.
    """
    start = text.find(_FENCE)
    if start < 0:
        return text
    end = text.find(_FENCE, start + len(_FENCE))
    if end < 0:
        return text
    inside = text[start + len(_FENCE) : end]
    first, newline, rest = inside.lstrip().partition("\n")
    return rest if newline and _LONE_WORD.fullmatch(first.strip()) else inside


def command_lines(text: str) -> Iterator[list[str]]:
    """The words of every non-empty line: one list mark and one "/" removed, the first word lower-cased.

    Lines end where `str.splitlines` says and words where `str.split` says. `//setblock` keeps a slash (and so is no
    command); `/ setblock` is one.
    """
    for line in fenced_text(text).splitlines():
        line = line.strip()
        mark = _LIST_MARK.match(line)
        if mark:
            line = line[mark.end() :]
        words = line.removeprefix("/").split()
        if words:
            yield [words[0].lower(), *words[1:]]


def parse_cell(words: list[str]) -> Cell | None:
    """Three plain integers as Python's `int` reads them (`+3`, `03`, `1_0` and non-ASCII digits pass), else None."""
    try:
        x, y, z = words
        return int(x), int(y), int(z)
    except ValueError:
        return None


def parse_block(word: str, palette: Collection[str]) -> str | None:
    """The block id without one `minecraft:`, or None where it is neither in the palette nor air. Case-sensitive."""
    block = word.removeprefix("minecraft:")
    return block if block == AIR or block in palette else None


def setblock_parser(palette: Collection[str], box: Box) -> LineParser[Setblock]:
    """A parser of `setblock x y z block` lines; words after the block are ignored."""

    def parse(words: list[str]) -> Setblock | None:
        if len(words) < 5 or words[0] != "setblock":
            return None
        cell, block = parse_cell(words[1:4]), parse_block(words[4], palette)
        if cell is None or block is None or cell not in box:
            return None
        return Setblock(cell, block)

    return parse


def accepted_commands(text: str, parse: LineParser[Command], limit: int) -> list[Command]:
    """The first `limit` accepted commands of a response, in order. Only accepted lines count towards the limit."""
    accepted: list[Command] = []
    for words in command_lines(text):
        if len(accepted) >= limit:
            break
        command = parse(words)
        if command is not None:
            accepted.append(command)
    return accepted


def run_commands(world: World, commands: list[Setblock]) -> None:
    """Run commands on a world in place; later writes win."""
    for command in commands:
        if command.block == AIR:
            world.pop(command.cell, None)
        else:
            world[command.cell] = command.block


def split_limit(total: int, n_agents: int) -> tuple[int, ...]:
    """A command limit split evenly over the agents; the remainder goes to the first agents, one each."""
    share, rest = divmod(total, n_agents)
    return tuple(share + (i < rest) for i in range(n_agents))
