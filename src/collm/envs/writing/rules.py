"""The numbers of a writing task, resolved from its configuration in this one place.

Source: tasks.md section 1. Profile `paper` follows the paper, `comlrl` the released code (v1.3.6); a setting given in the
configuration wins over the profile.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from collm.config.tasks import ArxivTask, TldrTask, WritingSection
from collm.envs.writing.lexicon import Lexicon, load_lexicon
from collm.errors import ConfigError

Match = Literal["words", "substring"]
Searched = Literal["both", "second", "glued"]


@dataclass(frozen=True, slots=True)
class Window:
    """A ratio's reward: rises from `low` to `full_from`, is full until `full_to`, falls to `high`; nothing outside."""

    low: float
    full_from: float
    full_to: float
    high: float

    def share(self, ratio: float) -> float | None:
        """The share of the full reward, in [0, 1]; 0 at `low` and `high`, None outside them (the score stops there)."""
        if ratio < self.low or ratio > self.high:
            return None
        if ratio < self.full_from:
            return (ratio - self.low) / (self.full_from - self.low)
        if ratio <= self.full_to:
            return 1.0
        return (self.high - ratio) / (self.high - self.full_to)


@dataclass(frozen=True, slots=True)
class Transitions:
    """How T, the transition score in [0, 1], comes from the texts."""

    curve: Literal["log", "steps"]
    rate: float
    first: float
    step: float
    match: Match
    searched: Searched

    def score(self, categories: int) -> float:
        """T of the number of categories found."""
        if self.curve == "log":
            return min(self.rate * math.log(categories + 1), 1.0)
        return min(1.0, self.first + self.step * (categories - 1)) if categories else 0.0


@dataclass(frozen=True, slots=True)
class ProfileNumbers:
    """What a profile decides where the configuration says null."""

    unique_words: Literal["content", "all"]
    curve: Literal["log", "steps"]
    match: Match
    searched: Searched
    length_window: tuple[float, ...]


_TLDR_LENGTH = (1.1, 1.6, 3.2, 5.0)
PROFILES = {
    ("tldr", "paper"): ProfileNumbers("content", "log", "words", "both", _TLDR_LENGTH),
    ("tldr", "comlrl"): ProfileNumbers("all", "steps", "substring", "second", _TLDR_LENGTH),
    ("arxiv", "paper"): ProfileNumbers("content", "log", "words", "both", (0.8, 1.0, 1.3, 1.5)),
    ("arxiv", "comlrl"): ProfileNumbers("all", "steps", "substring", "glued", (0.8, 1.3, 1.6, 2.0)),
}


@dataclass(frozen=True, slots=True)
class Rules:
    """A writing task, nothing left to decide."""

    lexicon: Lexicon
    min_tokens: int
    max_tokens: int
    structure_reward: float
    length: Window
    length_reward: float
    unique_words: Literal["content", "all"]
    vocabulary: Window
    vocabulary_reward: float
    transitions: Transitions
    transition_weight: float
    overlap_full: float
    overlap_weight: float

    @property
    def max_reward(self) -> float:
        """The sum of all levels' full rewards; 3 with the papers' numbers."""
        style = self.transition_weight + self.overlap_weight
        return self.structure_reward + self.length_reward + self.vocabulary_reward + style

    def __deepcopy__(self, memo: dict[int, Any]) -> Rules:
        return self  # immutable throughout; tree rollouts copy environments often


def resolve_rules(task: TldrTask | ArxivTask) -> Rules:
    """The rules of `task`. Raises ConfigError naming the setting that does not fit, or what is wrong with the lexicon."""
    numbers = PROFILES[task.name, task.profile]
    rules = Rules(
        lexicon=load_lexicon(task.lexicon),
        min_tokens=task.min_tokens,
        max_tokens=task.max_tokens,
        structure_reward=task.structure_reward,
        length=_window(task.length_window or numbers.length_window),
        length_reward=task.length_reward,
        unique_words=task.unique_words or numbers.unique_words,
        vocabulary=_window(task.vocabulary_window),
        vocabulary_reward=task.vocabulary_reward,
        transitions=_transitions(task, numbers),
        transition_weight=task.transition_weight,
        overlap_full=task.overlap_full,
        overlap_weight=task.overlap_weight,
    )
    if rules.max_reward <= 0:
        raise ConfigError("task: every reward and weight is 0; give at least one, for example task.structure_reward=0.5")
    return rules


def _transitions(task: WritingSection, numbers: ProfileNumbers) -> Transitions:
    return Transitions(
        curve=task.transition_curve or numbers.curve,
        rate=task.transition_rate,
        first=task.transition_first,
        step=task.transition_step,
        match=task.transition_match or numbers.match,
        searched=task.transition_texts or numbers.searched,
    )


def _window(numbers: Sequence[float]) -> Window:
    """Two numbers have no upper end."""
    low, full_from, full_to, high = [*numbers, math.inf, math.inf] if len(numbers) == 2 else numbers
    return Window(low, full_from, full_to, high)
