"""What the agents read: the first prompt and the three kinds of feedback (tasks.md, StrBuild).

The texts are short on purpose: the built-in tiny models read them too, and every word is a token.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from collm.envs.strbuild.glyphs import GAP, HEIGHT, WIDTH, Cell2, Layout
from collm.envs.strbuild.rules import Rules
from collm.envs.strbuild.scoring import texture


def render_rows(cells: Iterable[Cell2], width: int | None = None) -> list[str]:
    """Cells by row, top row first: `y=4 x 0 1 2`. With a width, every row also shows its picture: `y=4 ###.. x 0 1 2`."""
    rows: dict[int, list[int]] = {}
    for x, y in sorted(cells):
        rows.setdefault(y, []).append(x)
    lines = []
    for y in sorted(rows if width is None else range(HEIGHT), reverse=True):
        xs = rows.get(y, [])
        picture = "" if width is None else "".join("#" if x in xs else "." for x in range(width)) + " "
        lines.append(f"y={y} {picture}x {' '.join(map(str, xs))}".rstrip())
    return lines


def first_prompt(layout: Layout, rules: Rules, agent: int) -> str:
    """The prompt of turn 1 for agent number `agent` (from 0)."""
    others = rules.n_agents - 1
    team = f" with {others} other agent{'s' * (others > 1)}. You are agent {agent + 1} of {rules.n_agents}." if others else "."
    blocks = [*rules.palettes[agent], *(["air"] if rules.world == "persistent" else [])]
    duties = ["Do not build outside the target."]
    if rules.adjacency_weight > 0:
        duties.append("Cells that share a side should differ in texture.")
    if rules.palette_weight > 0:
        duties.append("Use each of your blocks.")
    lines = [
        f"Build the string {layout.text}{team}",
        f"Your blocks: {', '.join(blocks)}",
        "Answer with lines: /setblock x y z block",
        f"Box: x 0 to {layout.width - 1}, y 0 to {HEIGHT - 1}, z 0. At most {rules.limits[agent]} lines.",
        " ".join(duties),
    ]
    if rules.show_target:
        lines += ["Target, top row first, with the x of its cells:", *render_rows(layout.cells, layout.width)]
    else:
        lines.append(f"Letters are {WIDTH} wide and {HEIGHT} high with {GAP} empty columns between.")
    return "\n".join(lines)


def feedback(layout: Layout, rules: Rules, agent: int, turn: int, reward: float, blocks: Mapping[Cell2, str]) -> str:
    """The feedback before turn number `turn` (from 1) on the blocks and the score of the turn before."""
    lines = [f"Turn {turn} of {rules.turns}. Score {reward:z.2f} of {rules.coverage_weight}."]
    if rules.feedback == "position":
        lines += _position(layout, rules)
    elif rules.feedback == "perfect":
        lines += _perfect(layout, rules, agent, blocks)
    kept = "The world is empty again: send all your lines." if rules.world == "reset" else "All blocks stay where they are."
    return "\n".join([*lines, kept])


def _position(layout: Layout, rules: Rules) -> list[str]:
    if rules.n_agents == 1:
        ask = "Build all of these target cells:"
    else:
        share = "half" if rules.n_agents == 2 else f"1/{rules.n_agents}"
        ask = f"Choose about {share} of these target cells, no two sharing a side:"
    return [ask, *render_rows(layout.cells)]


def _perfect(layout: Layout, rules: Rules, agent: int, blocks: Mapping[Cell2, str]) -> list[str]:
    wrong: dict[str, list[Cell2]] = {}
    for cell, block in perfect_plan(layout, rules).items():
        if owner(cell, rules) == agent and blocks.get(cell) != block:
            wrong.setdefault(block, []).append(cell)
    lines = ["Your wrong cells should be:"] if wrong else ["Your cells are right."]
    for block in sorted(wrong):
        lines += [block, *render_rows(wrong[block])]
    extras = blocks.keys() - layout.cells
    if agent == rules.n_agents - 1 and extras:
        lines += ["These cells should be empty:" if rules.world == "reset" else "Set these cells to air:", *render_rows(extras)]
    return lines


def owner(cell: Cell2, rules: Rules) -> int:
    """The agent that owns a target cell, (x + y) mod n."""
    return sum(cell) % rules.n_agents


def perfect_plan(layout: Layout, rules: Rules) -> dict[Cell2, str]:
    """A block for every target cell: its owner's palette from index (x + y) mod size, the first whose texture differs
    from the neighbours that have one already; where none does, the one at that index. Cells are visited by y, then x."""
    plan: dict[Cell2, str] = {}
    for x, y in sorted(layout.cells, key=lambda cell: (cell[1], cell[0])):
        palette = rules.palettes[owner((x, y), rules)]
        start = (x + y) % len(palette)
        around = {texture(plan[c]) for c in ((x - 1, y), (x, y - 1)) if c in plan}
        choices = palette[start:] + palette[:start]
        plan[x, y] = next((block for block in choices if texture(block) not in around), choices[0])
    return plan
