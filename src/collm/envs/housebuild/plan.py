"""Who builds what: the target's rectangles dealt out so that together the agents can build all of it."""

from __future__ import annotations

from collm.envs.housebuild.blueprint import Blueprint
from collm.envs.housebuild.rules import Rules
from collm.envs.minecraft.fill import Fill


def perfect_plan(blueprint: Blueprint, rules: Rules) -> tuple[tuple[Fill, ...], ...]:
    """The rectangles of each agent, within its resources.

    In order, each goes to the agent with the fewest cells so far (the first of them) that may still place it; one that
    nobody may place whole is halved along its longest side. Blocks that nobody has, or has enough of, are left out.
    """
    left = [rules.resources(agent, blueprint.counts) for agent in range(rules.n_agents)]
    plan: list[list[Fill]] = [[] for _ in left]
    cells = [0] * rules.n_agents
    waiting = list(reversed(blueprint.rectangles))
    while waiting:
        piece = waiting.pop()
        able = [agent for agent, has in enumerate(left) if has.get(piece.block, 0) >= piece.volume]
        if able:
            agent = min(able, key=lambda a: cells[a])
            plan[agent].append(piece)
            cells[agent] += piece.volume
            left[agent][piece.block] -= piece.volume
        elif piece.volume > 1 and any(has.get(piece.block, 0) for has in left):
            waiting += reversed(_halves(piece))
    return tuple(map(tuple, plan))


def _halves(fill: Fill) -> tuple[Fill, Fill]:
    low, high = list(fill.low), list(fill.high)
    axis = max(range(3), key=lambda a: high[a] - low[a])
    middle = (low[axis] + high[axis]) // 2
    first_high, second_low = list(high), list(low)
    first_high[axis], second_low[axis] = middle, middle + 1
    return Fill(fill.low, _corner(first_high), fill.block), Fill(_corner(second_low), fill.high, fill.block)


def _corner(values: list[int]) -> tuple[int, int, int]:
    x, y, z = values
    return x, y, z
