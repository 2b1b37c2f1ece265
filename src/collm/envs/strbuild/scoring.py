"""The StrBuild score: a pure function of the blocks that stand (tasks.md, StrBuild).

score = w_cov C - w_ext E - w_adj A - w_pal P, with

- C covered target cells / target cells; any texture counts,
- E extra blocks / N_E, N_E the target cells (`paper`) or the box's other cells (`comlrl`),
- A side-sharing pairs with equal texture / all side-sharing pairs, over all blocks, extras included,
- P agents whose whole palette does not appear, anywhere in the box.

A ratio over nothing is 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from collm.envs.strbuild.glyphs import Cell2, Layout
from collm.envs.strbuild.rules import Rules

_STONES = frozenset({"stone", "cobblestone", "smooth_stone", "stone_bricks"})


@dataclass(frozen=True, slots=True)
class Score:
    """The score of one turn and its parts; ratios are in [0, 1] (extra_ratio may exceed 1 under `paper`)."""

    reward: float
    coverage: float
    extra_ratio: float
    adjacency: float
    """A, the rate of side-sharing pairs with equal texture."""
    iou: float
    """Covered / (target + extras)."""
    missing_palettes: int
    covered: int
    extras: int
    target_cells: int
    adjacent_pairs: int

    def metrics(self) -> dict[str, float]:
        """What is logged of it."""
        return {
            "iou": self.iou,
            "adjacency": self.adjacency,
            "coverage": self.coverage,
            "extra_ratio": self.extra_ratio,
            "missing_palettes": float(self.missing_palettes),
        }


def texture(block: str) -> str:
    """The texture key of a block id: wood, stone, concrete, or the id itself."""
    if block.endswith(("_planks", "_wood")):
        return "wood"
    if block in _STONES or block.endswith("_stone"):
        return "stone"
    if block.endswith("_concrete"):
        return "concrete"
    return block


def score_build(blocks: Mapping[Cell2, str], layout: Layout, rules: Rules) -> Score:
    """The score of the blocks standing on the plane z = 0 against the target."""
    target = len(layout.cells)
    covered = sum(cell in layout.cells for cell in blocks)
    extras = len(blocks) - covered
    extra_cells = target if rules.extra_cells == "target" else layout.box_cells - target
    pairs, equal = _adjacent_pairs(blocks)
    present = set(blocks.values())
    missing = sum(not present.issuperset(palette) for palette in rules.palettes)
    coverage, extra_ratio, adjacency = _ratio(covered, target), _ratio(extras, extra_cells), _ratio(equal, pairs)
    reward = (
        rules.coverage_weight * coverage
        - rules.extra_weight * extra_ratio
        - rules.adjacency_weight * adjacency
        - rules.palette_weight * missing
    )
    return Score(
        reward=reward,
        coverage=coverage,
        extra_ratio=extra_ratio,
        adjacency=adjacency,
        iou=_ratio(covered, target + extras),
        missing_palettes=missing,
        covered=covered,
        extras=extras,
        target_cells=target,
        adjacent_pairs=pairs,
    )


def _adjacent_pairs(blocks: Mapping[Cell2, str]) -> tuple[int, int]:
    """How many pairs of blocks share a side, and how many of those have the same texture."""
    pairs = equal = 0
    for (x, y), block in blocks.items():
        for neighbour in ((x + 1, y), (x, y + 1)):
            if neighbour in blocks:
                pairs += 1
                equal += texture(block) == texture(blocks[neighbour])
    return pairs, equal


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
