"""The writing reward: a pure function of two texts (tasks.md section 1).

Four levels, each reached only if the one before it did not stop: structure (tokens of both texts), length (ratio of their
lengths), vocabulary (ratio of their unique words), style (w_T T + w_J min(J, full) / full). What earlier levels earned is
kept at a stop.
"""

from __future__ import annotations

from dataclasses import dataclass

from collm.envs.writing.measures import Measures, measure
from collm.envs.writing.rules import Rules

LEVELS = ("structure", "length", "vocabulary", "style")


@dataclass(frozen=True, slots=True)
class Score:
    """The reward of two texts and where it comes from."""

    levels: tuple[float, ...]
    """What each level earned, in the order of `LEVELS`; only those that were reached, the one that stopped included."""
    stopped: bool
    """Whether the last level reached was not passed."""
    transition: float
    """T, in [0, 1], whether or not level 4 was reached."""
    overlap: float
    """min(J, full) / full, likewise."""
    measures: Measures
    max_reward: float

    @property
    def reward(self) -> float:
        return sum(self.levels)

    @property
    def stopped_at(self) -> str | None:
        """The level that was not passed; None where all were."""
        return LEVELS[len(self.levels) - 1] if self.stopped else None

    def metrics(self) -> dict[str, float]:
        """What is logged of it. Measures are given whether or not their level was reached."""
        seen = self.measures
        earned = [*self.levels, *[0.0] * (len(LEVELS) - len(self.levels))]
        return {
            "score": self.reward / self.max_reward,
            **{f"{level}_reward": value for level, value in zip(LEVELS, earned, strict=True)},
            "levels_passed": float(len(self.levels) - self.stopped),
            "tokens_1": float(seen.tokens[0]),
            "tokens_2": float(seen.tokens[1]),
            "length_ratio": seen.length_ratio,
            "unique_ratio": seen.unique_ratio,
            "transition_categories": float(len(seen.categories)),
            "transition": self.transition,
            "jaccard": seen.jaccard,
        }


def score_texts(first: str, second: str, rules: Rules) -> Score:
    """The reward of c1 = `first` and c2 = `second`. Never raises; takes linear time."""
    seen = measure(first, second, rules)
    transition = rules.transitions.score(len(seen.categories))
    overlap = min(seen.jaccard, rules.overlap_full) / rules.overlap_full
    style = rules.transition_weight * transition + rules.overlap_weight * overlap
    levels, stopped = _levels(seen, style, rules)
    return Score(levels, stopped, transition, overlap, seen, rules.max_reward)


def _levels(seen: Measures, style: float, rules: Rules) -> tuple[tuple[float, ...], bool]:
    """What each level reached earned, and whether the last of them stopped the score."""
    if not all(rules.min_tokens <= tokens <= rules.max_tokens for tokens in seen.tokens):
        return (0.0,), True
    structure = rules.structure_reward
    length = rules.length.share(seen.length_ratio)
    if length is None:
        return (structure, 0.0), True
    length *= rules.length_reward
    vocabulary = rules.vocabulary.share(seen.unique_ratio)
    if vocabulary is None:
        return (structure, length, 0.0), True
    return (structure, length, vocabulary * rules.vocabulary_reward, style), False
