"""The task of the comparison, in plain functions that both sides call: StrBuild-like, four turns, a cheap reward.

Nothing but the standard library is imported here, because comlrl's environment holds no collm.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

TURNS = 4
AGENTS = 2
RESPONSE_TOKENS = 64
_WIDTH, _HEIGHT = 19, 5
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def word(number: int) -> str:
    """The string to build in episode `number`."""
    code = zlib.crc32(f"word {number}".encode())
    return "".join(_LETTERS[(code >> 5 * i) % 26] for i in range(4))


def first_prompt(target: str, agent: int) -> str:
    """What an agent reads on its first turn; 261 characters, whatever the string."""
    rows = [f"{zlib.crc32(f'{target} {y}'.encode()) % (1 << _WIDTH):0{_WIDTH}b}" for y in range(_HEIGHT)]
    picture = "\n".join(row.replace("1", "#").replace("0", ".") for row in rows)
    return (
        f"Build {target} with your partner. You are agent {agent + 1} of {AGENTS}; your blocks: {('white', 'black')[agent]} wool, "
        f"{('brick', 'stone')[agent]}. One command a line: /setblock x y z block. The target, top row first:\n{picture}\nCommands:\n"
    )


def next_prompt(target: str, agent: int, turn: int, reward_before: float) -> str:
    """What an agent reads on a later turn (0-based): the score, then the task once more, as comlrl's own tasks do."""
    return f"Turn {turn + 1} of {TURNS}. Last score {reward_before:.3f} of 1.\n" + first_prompt(target, agent)


def reward(target: str, texts: Sequence[str]) -> float:
    """In [0, 1]: half for the share of the target's characters that somebody wrote, half for how different the texts are."""
    seen, letters = set("".join(texts)), set(target + target.lower())
    own = [set(text) for text in texts]
    shared, either = set.intersection(*own), set.union(*own)
    return round(0.5 * len(letters & seen) / len(letters) + 0.5 * (1 - len(shared) / max(1, len(either))), 6)
