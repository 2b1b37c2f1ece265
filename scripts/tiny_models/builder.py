"""The scripted noisy builder whose StrBuild responses the tiny models imitate.

It acts sensibly (it writes `/setblock` lines for some of the target cells, row by row from the top) but on purpose not
well: coverage is low, blocks often repeat side by side, a few cells are wrong and a few lines malformed, so that
reinforcement learning has something to do and enough variety to select from.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Cell = tuple[int, int, int]

WRONG_CELL = 0.03
MALFORMED_LINE = 0.02
EARLY_STOP = 0.10
CHECKERBOARD = 0.25
FOLLOW_HINT = 0.5


@dataclass(frozen=True)
class Scene:
    """What one agent works with: target cells in writing order, its palette and its place in the team."""

    cells: Sequence[Cell]
    palette: Sequence[str]
    index: int
    n_agents: int


def response(rng: random.Random, scene: Scene, hint: Mapping[Cell, str] | None = None, careful: bool = False) -> str:
    """One response; `hint` maps cells to blocks as the feedback asked for them (mode `perfect`), sometimes followed.

    A careful one leaves nothing out and makes no mistakes: models learn to copy coordinates from those, which noise hides.
    """
    if careful:
        paint = _painter(rng, scene)
        return "\n".join(f"/setblock {x} {y} {z} {paint((x, y, z))}" for x, y, z in _careful_cells(rng, scene))
    if hint and rng.random() < FOLLOW_HINT:
        plan = [(cell, hint[cell]) for cell in hint if rng.random() < 0.9]
    else:
        paint = _painter(rng, scene)
        plan = [(cell, paint(cell)) for cell in _chosen_cells(rng, scene)]
    if not plan:
        cell = rng.choice(list(scene.cells))
        plan = [(cell, rng.choice(list(scene.palette)))]
    if rng.random() < EARLY_STOP:
        plan = plan[: rng.randint(1, len(plan))]
    return "\n".join(_line(rng, cell, block) for cell, block in plan)


def _chosen_cells(rng: random.Random, scene: Scene) -> list[Cell]:
    """Each cell independently: with one density for all, or mostly those of the agent's own checkerboard colour."""
    if scene.n_agents > 1 and rng.random() < CHECKERBOARD:
        return [c for c in scene.cells if rng.random() < (0.7 if (c[0] + c[1]) % scene.n_agents == scene.index else 0.1)]
    density = rng.uniform(0.15, 0.6)
    return [c for c in scene.cells if rng.random() < density]


def _careful_cells(rng: random.Random, scene: Scene) -> list[Cell]:
    """All cells, or exactly those of the agent's own checkerboard colour."""
    own = [c for c in scene.cells if (c[0] + c[1]) % scene.n_agents == scene.index]
    return own if own and rng.random() < 0.4 else list(scene.cells)


def _painter(rng: random.Random, scene: Scene) -> Callable[[Cell], str]:
    """The response's way to choose blocks: at random, alternating by parity, or always the same."""
    palette = list(scene.palette)
    style = rng.random()
    if style < 0.4:
        return lambda cell: rng.choice(palette)
    if style < 0.7:
        return lambda cell: palette[(cell[0] + cell[1]) % len(palette)]
    only = rng.choice(palette)
    return lambda cell: only


def _line(rng: random.Random, cell: Cell, block: str) -> str:
    """A command for the cell; now and then for a cell beside it, or malformed."""
    x, y, z = cell
    if rng.random() < WRONG_CELL:
        dx, dy = rng.choice([(-1, 0), (1, 0), (0, -1), (0, 1)])
        x, y = max(0, x + dx), max(0, y + dy)
    if rng.random() < MALFORMED_LINE:
        return rng.choice([f"/setblock {x} {y} {block}", f"/setblock {x} {y} {z}", f"/setblock {x} {y} {z} glass"])
    return f"/setblock {x} {y} {z} {block}"
