"""The HouseBuild score: a pure function of the blocks that stand and of the health lost (tasks.md, HouseBuild).

- score `coverage` (`paper`): w_cov C - w_ext E - w_spider lost, with C target blocks present with the right block / target
  blocks and E wrong or extra blocks / target blocks;
- score `match` (`comlrl`): w_match M - w_spider lost, with M cells equal to the target, air included, / all cells;
- lost = min(1, damage / hp) (`collm.envs.housebuild.spiders`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from collm.envs.housebuild.blueprint import Blueprint
from collm.envs.housebuild.rules import Rules
from collm.envs.minecraft.commands import AIR, Cell


@dataclass(frozen=True, slots=True)
class Score:
    """The score of one turn and its parts; ratios are in [0, 1] (extra_ratio may exceed 1)."""

    reward: float
    match: float
    coverage: float
    extra_ratio: float
    iou: float
    """Blocks present in both / blocks in either; which block does not matter."""
    spider_penalty: float

    @property
    def built(self) -> bool:
        """Every cell is right."""
        return self.coverage == 1.0 and self.extra_ratio == 0.0

    def metrics(self) -> dict[str, float]:
        """What is logged of it."""
        return {
            "iou": self.iou,
            "match": self.match,
            "coverage": self.coverage,
            "extra_ratio": self.extra_ratio,
            "spider_penalty": self.spider_penalty,
        }


def score_build(blocks: Mapping[Cell, str], blueprint: Blueprint, lost: float, rules: Rules) -> Score:
    """The score of the standing blocks, all of them inside the box, and of the share `lost` of the players' health."""
    target = blueprint.cells
    in_both = sum(cell in target for cell in blocks)
    right = sum(target.get(cell) == block for cell, block in blocks.items())
    in_either = len(target) + len(blocks) - in_both
    match = (blueprint.volume - in_either + right) / blueprint.volume
    coverage, extra_ratio = right / len(target), (len(blocks) - right) / len(target)
    penalty = rules.spider_weight * lost
    if rules.score == "coverage":
        reward = rules.coverage_weight * coverage - rules.extra_weight * extra_ratio - penalty
    else:
        reward = rules.match_weight * match - penalty
    return Score(reward, match, coverage, extra_ratio, in_both / in_either, penalty)


def wrong_cells(blocks: Mapping[Cell, str], blueprint: Blueprint) -> dict[Cell, str]:
    """What every cell that is not right should be, air included; ordered by y, then z, then x."""
    target = blueprint.cells
    wrong = {cell: block for cell, block in target.items() if blocks.get(cell) != block}
    wrong.update({cell: AIR for cell in blocks if cell not in target})
    return dict(sorted(wrong.items(), key=lambda item: (item[0][1], item[0][2], item[0][0])))
