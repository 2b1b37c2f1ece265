"""The task of the comparison, in plain functions that both sides call: StrBuild-like, four turns, a cheap reward.

Every text has a fixed number of characters, and the tokenizer of the comparison makes one token of each, so that the
work is the same whatever is sampled. None ends in white space (see checkpoint.py). Nothing but the standard library is
imported here: comlrl's environment holds no collm.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

TURNS = 4
AGENTS = 2
RESPONSE_TOKENS = 64
FIRST_TOKENS = 263
LATER_TOKENS = 80
_WIDTH, _HEIGHT = 19, 5
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def word(number: int) -> str:
    """The string to build in episode `number`."""
    code = zlib.crc32(f"word {number}".encode())
    return "".join(_LETTERS[(code >> 5 * i) % 26] for i in range(4))


def first_prompt(target: str, agent: int) -> str:
    """What an agent observes on its first turn: FIRST_TOKENS characters."""
    rows = [f"{zlib.crc32(f'{target} {y}'.encode()) % (1 << _WIDTH):0{_WIDTH}b}" for y in range(_HEIGHT)]
    picture = "\n".join(row.replace("1", "#").replace("0", ".") for row in rows)
    return (
        f"Build {target} with your partner. You are agent {agent + 1} of {AGENTS}; your blocks: {('white', 'black')[agent]} wool, "
        f"{('brick', 'stone')[agent]}. One command a line: /setblock x y z block. The target, top row first:\n{picture}\nCommands:"
    )


def feedback(target: str, turn: int, texts_before: Sequence[str]) -> str:
    """What an agent observes on a later turn (0-based): turn, score, the letters still missing; LATER_TOKENS characters."""
    written = set("".join(texts_before))
    missing = "".join("-" if letter in written else letter for letter in target)
    score = reward(target, texts_before)
    return (
        f"\nTurn {turn + 1} of {TURNS}. Last score {score:.3f} of 1; letters missing: {missing}. ".ljust(LATER_TOKENS - 10) + "\nCommands:"
    )


def history(target: str, agent: int, responses: Sequence[Sequence[str]]) -> str:
    """All that an agent has observed and said, h_t: responses[i][k] is agent i's on turn k."""
    text = first_prompt(target, agent)
    for turn, said in enumerate(zip(*responses, strict=True)):
        text += said[agent] + feedback(target, turn + 1, said)
    return text


def history_tokens(turn: int) -> int:
    """Length of h_t."""
    return FIRST_TOKENS + turn * (RESPONSE_TOKENS + LATER_TOKENS)


def tree_steps(samples: int) -> int:
    """Joint actions of an episode: TURNS, or those of a full tree with so many samples per node."""
    return sum(samples**depth for depth in range(1, TURNS + 1)) if samples > 1 else TURNS


def context_tokens_per_step(samples: int) -> float:
    """Mean over joint actions of what all agents read before them."""
    read = sum(samples ** (turn + 1) * history_tokens(turn) for turn in range(TURNS))
    return AGENTS * read / sum(samples ** (turn + 1) for turn in range(TURNS))


def reward(target: str, texts: Sequence[str]) -> float:
    """In [0, 1]: half for the share of the target's characters that somebody wrote, half for how different the texts are."""
    seen, letters = set("".join(texts)), set(target + target.lower())
    own = [set(text) for text in texts]
    shared, either = set.intersection(*own), set.union(*own)
    return round(0.5 * len(letters & seen) / len(letters) + 0.5 * (1 - len(shared) / max(1, len(either))), 6)
