"""What the agents read: the first prompt and the six kinds of feedback (tasks.md, HouseBuild).

The texts are short on purpose: the built-in tiny models read them too, and every word is a token. Rectangles and cells
are written as a `/fill` takes them, so that a line can be copied into a command.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from collm.envs.housebuild.blueprint import Blueprint
from collm.envs.housebuild.plan import perfect_plan
from collm.envs.housebuild.rectangles import rectangles
from collm.envs.housebuild.rules import Rules
from collm.envs.housebuild.scoring import wrong_cells
from collm.envs.housebuild.spiders import Battle
from collm.envs.minecraft.commands import AIR, World
from collm.envs.minecraft.fill import DAMAGE_LINE, KILL_LINE, Fill, HouseCommand


@dataclass(frozen=True, slots=True)
class Standing:
    """What feedback speaks of: the blocks, the fight and everybody's accepted commands after the last turn, and its reward."""

    blocks: World
    battle: Battle
    accepted: Sequence[Sequence[HouseCommand]]
    """Per agent."""
    reward: float


def first_prompt(blueprint: Blueprint, rules: Rules, battle: Battle, agent: int) -> str:
    """The prompt of turn 1 for agent number `agent` (from 0)."""
    others = rules.n_agents - 1
    team = f" with {others} other agent{'s' * (others > 1)}. You are agent {agent + 1} of {rules.n_agents}." if others else "."
    (x1, y1, z1), (x2, y2, z2) = blueprint.box.low, blueprint.box.high
    lines = [
        f"Build the house{team}",
        "Answer with lines: /fill x1 y1 z1 x2 y2 z2 block",
        f"Box: x {x1} to {x2}, y {y1} to {y2}, z {z1} to {z2}. At most {rules.limits[agent]} lines.",
        f"You may place at most: {_amounts(rules.resources(agent, blueprint.counts))}{', any air' * (rules.world == 'persistent')}",
    ]
    return "\n".join([*lines, *_threat(rules, battle), "Target, in the same form:", *map(str, blueprint.rectangles)])


def feedback(blueprint: Blueprint, rules: Rules, agent: int, turn: int, now: Standing) -> str:
    """The feedback before turn number `turn` (from 1)."""
    lines = [f"Turn {turn} of {rules.turns}. Score {now.reward:z.2f} of {rules.max_reward}.", *_health(rules, now.battle)]
    match rules.feedback:
        case "perfect":
            lines += _perfect(blueprint, rules, agent, now)
        case "position":
            lines += _position(blueprint, rules)
        case "position_modification":
            lines += _wrong_cells(blueprint, rules, now)
        case "rect_modification":
            lines += [*_wrong_rectangles(blueprint, rules, agent, now), *_accepted(agent, now)]
        case "resource_schedule":
            lines += [*_accepted(agent, now), *_schedule(blueprint, rules, agent, now)]
        case "score":
            pass
    kept = "The world is empty again: send all your lines." if rules.world == "reset" else "All blocks stay where they are."
    return "\n".join([*lines, kept])


def _threat(rules: Rules, battle: Battle) -> list[str]:
    attacks = battle.threat.attacks
    if rules.spiders is None or not attacks:
        return []
    how = f"Strike one with the line: {DAMAGE_LINE if rules.damage_command else KILL_LINE}"
    if rules.spiders.reach == "all":
        how = f"Drive them away with the line: {KILL_LINE}"
    return [f"Spiders attack every turn: {_numbers(attacks)}. Health {battle.threat.player_hp:g}.", how]


def _health(rules: Rules, battle: Battle) -> list[str]:
    """Nothing where every turn starts anew."""
    if rules.spiders is None or not battle.threat.attacks or not rules.spiders.last:
        return []
    alive = _numbers(battle.threat.attacks[i] for i in battle.living)
    return [f"Health {battle.health_left:g}. {f'Spiders alive: {alive}.' if alive else 'No spiders left.'}"]


def _perfect(blueprint: Blueprint, rules: Rules, agent: int, now: Standing) -> list[str]:
    """The agent's part of the plan that is not there yet; to the last agent also what is to be empty."""
    wrong = wrong_cells(now.blocks, blueprint)
    mine = [fill for fill in perfect_plan(blueprint, rules)[agent] if any(cell in wrong for cell in fill.cells())]
    lines = ["Your wrong rectangles should be:", *map(str, mine)] if mine else ["Your rectangles are right."]
    extras = {cell: block for cell, block in wrong.items() if block == AIR}
    if agent == rules.n_agents - 1 and extras:
        lines += ["These cells should be empty:" if rules.world == "reset" else "Fill these cells with air:", *map(str, rectangles(extras))]
    return lines


def _position(blueprint: Blueprint, rules: Rules) -> list[str]:
    share = "all" if rules.n_agents == 1 else "about half" if rules.n_agents == 2 else f"about 1/{rules.n_agents}"
    return [f"Build {share} of these target rectangles:", *map(str, blueprint.rectangles)]


def _wrong_cells(blueprint: Blueprint, rules: Rules, now: Standing) -> list[str]:
    wrong = list(wrong_cells(now.blocks, blueprint).items())
    if not wrong:
        return ["All cells are right."]
    shown = wrong[: rules.shown_cells]
    return [f"Wrong cells: {len(wrong)}. The first {len(shown)} should be:", *(str(Fill(cell, cell, block)) for cell, block in shown)]


def _wrong_rectangles(blueprint: Blueprint, rules: Rules, agent: int, now: Standing) -> list[str]:
    """Those of the agent's layers."""
    first, last = band(blueprint, rules, agent)
    if first > last:
        return ["No layer is yours."]
    mine = {cell: block for cell, block in wrong_cells(now.blocks, blueprint).items() if first <= cell[1] <= last}
    if not mine:
        return [f"Nothing is wrong in your layers, y {first} to {last}."]
    return [f"Wrong in your layers, y {first} to {last}, should be:", *map(str, rectangles(mine))]


def band(blueprint: Blueprint, rules: Rules, agent: int) -> tuple[int, int]:
    """First and last layer of an agent: the box is cut into one band of layers per agent, the lowest for the first agent.

    Of an odd number of layers the lower half has one more. The last is below the first where there are more agents than layers.
    """
    low, layers = blueprint.box.low[1], blueprint.box.high[1] - blueprint.box.low[1] + 1
    start, end = (-(-part * layers // rules.n_agents) for part in (agent, agent + 1))
    return low + start, low + end - 1


def _accepted(agent: int, now: Standing) -> list[str]:
    commands = now.accepted[agent]
    return ["Your accepted lines:", *(command.line for command in commands)] if commands else ["None of your lines was accepted."]


def _schedule(blueprint: Blueprint, rules: Rules, agent: int, now: Standing) -> list[str]:
    """What the agent could still have placed, and the target rectangles, not there yet, that fit into it one after the other."""
    left = rules.resources(agent, blueprint.counts)
    for command in now.accepted[agent]:
        if isinstance(command, Fill) and command.block != AIR:
            left[command.block] -= command.volume
    lines = [f"You could still place: {_amounts(left)}"]
    wrong = wrong_cells(now.blocks, blueprint)
    fitting: list[str] = []
    for fill in blueprint.rectangles:
        if left.get(fill.block, 0) >= fill.volume and any(cell in wrong for cell in fill.cells()):
            left[fill.block] -= fill.volume
            fitting.append(str(fill))
    return [*lines, "Of the target these still fit:", *fitting] if fitting else [*lines, "Nothing of the target is missing that fits."]


def _amounts(resources: dict[str, int]) -> str:
    return ", ".join(f"{amount} {block}" for block, amount in resources.items())


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
