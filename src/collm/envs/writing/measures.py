"""What is measured of two texts c1 and c2 (tasks.md section 1). Everything takes linear time.

Tokens are whitespace-separated pieces, lengths are characters, words are lower-cased runs of word characters, content
words are words minus stopwords.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from collm.envs.writing.lexicon import Lexicon
from collm.envs.writing.rules import Match, Rules, Searched

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Measures:
    """Of two texts; a ratio to nothing is 0."""

    tokens: tuple[int, int]
    lengths: tuple[int, int]
    """Characters."""
    unique: tuple[int, int]
    """Different words that count as vocabulary: content words, or all."""
    jaccard: float
    """Of the sets of content words; 1 where both are empty."""
    categories: tuple[str, ...]
    """Transition categories found, in the lexicon's order."""

    @property
    def length_ratio(self) -> float:
        return _ratio(self.lengths)

    @property
    def unique_ratio(self) -> float:
        return _ratio(self.unique)


def measure(first: str, second: str, rules: Rules) -> Measures:
    """Everything the reward reads of the two texts."""
    words = [set(_WORD.findall(text.lower())) for text in (first, second)]
    content = [found - rules.lexicon.stopwords for found in words]
    counted = content if rules.unique_words == "content" else words
    return Measures(
        tokens=(len(first.split()), len(second.split())),
        lengths=(len(first), len(second)),
        unique=(len(counted[0]), len(counted[1])),
        jaccard=jaccard(content[0], content[1]),
        categories=categories_found(first, second, rules.lexicon, rules.transitions.match, rules.transitions.searched),
    )


def jaccard(a: set[str], b: set[str]) -> float:
    """|a and b| / |a or b|, 1 where both are empty."""
    return len(a & b) / len(a | b) if a or b else 1.0


def categories_found(first: str, second: str, lexicon: Lexicon, match: Match, searched: Searched) -> tuple[str, ...]:
    """The names of the transition categories that occur, in the lexicon's order."""
    texts = {"both": (first, second), "second": (second,), "glued": (first + second,)}[searched]
    lowered = [text.lower() for text in texts]
    return tuple(c.name for c in lexicon.categories if any(c.found_in(text, match) for text in lowered))


def _ratio(pair: tuple[int, int]) -> float:
    return pair[1] / pair[0] if pair[0] else 0.0
