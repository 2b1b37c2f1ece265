"""Demonstrations of all five tasks, by share of tokens."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from tiny_models.demos import Dialogue, demonstrations, encode
from tiny_models.demos_coding import coding_demonstrations
from tiny_models.demos_housebuild import housebuild_demonstrations
from tiny_models.demos_writing import arxiv_demonstrations, tldr_demonstrations
from tiny_models.train import Example

EPISODES_AT_ONCE = 40


@dataclass(frozen=True)
class Source:
    """A task's scripted demonstrations: (seed, episodes, share of faultless responses) -> dialogues."""

    share: float
    """Of the tokens."""
    play: Callable[[int, int, float], Sequence[Dialogue]]


def _seeded(play: Callable[[random.Random, int, float], Sequence[Dialogue]]) -> Callable[[int, int, float], Sequence[Dialogue]]:
    return lambda seed, episodes, careful: play(random.Random(seed), episodes, careful)


SOURCES = {
    "strbuild": Source(0.2, lambda seed, episodes, careful: demonstrations(seed, episodes, short=False, careful=careful)),
    "housebuild": Source(0.3, _seeded(housebuild_demonstrations)),
    "tldr": Source(0.12, _seeded(tldr_demonstrations)),
    "arxiv": Source(0.16, _seeded(arxiv_demonstrations)),
    "coding": Source(0.22, _seeded(coding_demonstrations)),
}


def mixed_texts(seed: int, characters: int) -> list[str]:
    """Texts of the four later tasks, about equally many characters of each, for new tokenizer pieces."""
    texts: list[str] = []
    for number, (name, source) in enumerate(SOURCES.items()):
        left = 0 if name == "strbuild" else characters // (len(SOURCES) - 1)
        while left > 0:
            seed += 1
            fresh = [text for dialogue in source.play(seed * 10 + number, EPISODES_AT_ONCE, 0.2) for turn in dialogue for text in turn]
            texts += fresh
            left -= sum(map(len, fresh))
    return texts


def mixed_examples(tokenizer: PreTrainedTokenizerBase, seed: int, tokens: int, careful: float) -> list[Example]:
    """About `tokens` tokens of tokenised dialogues, each task by its share."""
    examples: list[Example] = []
    for number, source in enumerate(SOURCES.values()):
        left = round(tokens * source.share)
        batch = 0
        while left > 0:
            batch += 1
            dialogues = source.play(seed + 10_000 * number + batch, EPISODES_AT_ONCE, careful)
            fresh = [encode(dialogue, tokenizer) for dialogue in dialogues]
            examples += fresh
            left -= sum(len(example.ids) for example in fresh)
    return examples
