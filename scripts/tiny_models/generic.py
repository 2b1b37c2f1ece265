"""Synthetic text of the other tasks (plain English, Python, house building), so that their text tokenises tolerably."""

from __future__ import annotations

import random
from collections.abc import Iterator

_WORDS = {
    "noun": (
        "method model data result system paper problem approach time people work way year world day part place case point "
        "group number area fact question relationship friend home family school job company story week month experiment "
        "network training language theory equation field energy particle function"
    ),
    "verb": (
        "shows uses gives makes takes finds needs wants tells asks explains describes improves reduces increases learns "
        "trains proposes studies presents considers suggests helps works"
    ),
    "adjective": "new good large small long simple general different important strong recent better efficient novel first last main",
    "name": "values total result index count text word number left right items size string list value n x i j a b s k",
    "block": "white_concrete obsidian oak_planks stone_stairs stone_bricks cobblestone air",
}
_OPENERS = (
    "However, the",
    "Therefore, the",
    "In addition, the",
    "For example, the",
    "As a result, the",
    "Because of this, the",
    "First, the",
    "Then, the",
    "Finally, the",
    "In summary, the",
    "On the other hand, the",
    "In this paper, we show that the",
    "My friend and I think that the",
    "I have been told that the",
    "The",
)


def _word(rng: random.Random, kind: str) -> str:
    return rng.choice(_WORDS[kind].split())


def generic_texts(rng: random.Random, count: int) -> Iterator[str]:
    """`count` short documents, a third of each kind."""
    makers = (_english, _python, _house)
    for i in range(count):
        yield makers[i % len(makers)](rng)


def _english(rng: random.Random) -> str:
    sentences = []
    for _ in range(rng.randint(2, 6)):
        other = _word(rng, "noun")
        subject = f"{rng.choice(_OPENERS)} {_word(rng, 'adjective')} {_word(rng, 'noun')}"
        rest = f"{_word(rng, 'verb')} a {_word(rng, 'adjective')} {other} of the {_word(rng, 'noun')}"
        ends = (".", " and it is not clear why.", ", which is what we want to know.", f" with {rng.randint(1, 500)} {other}s.")
        sentences.append(f"{subject} {rest}{rng.choice(ends)}")
    return rng.choice(["Summarize the text in one paragraph.\n\n", "TL;DR: ", ""]) + " ".join(sentences)


def _python(rng: random.Random) -> str:
    function, a, b = rng.choice(["aux", "solve", "count_words", "is_prime", "find_max"]), _word(rng, "name"), _word(rng, "name")
    body = rng.choice(
        [
            f"    {a} = 0\n    for {b} in range(len({a})):\n        if {b} > {rng.randint(0, 9)}:\n            {a} += {b}\n    return {a}",
            f"    out = []\n    for {b} in {a}:\n        out.append({b} % {rng.randint(2, 9)} == 0)\n    return sorted(out)\n",
            f"    if not {a}:\n        return None\n    return max({a}, key=lambda {b}: {b}[0])\n",
            f"    return sum({b} for {b} in aux({a}) if {b} != '')\n",
        ]
    )
    doc = rng.choice(["", f'    """Return the {_word(rng, "adjective")} {_word(rng, "noun")} of the list."""\n'])
    head = rng.choice(["", "from typing import List\n\n", "import math\n\n", "```python\n"])
    return f"{head}def {function}({a}: list[int], {b}: str) -> int:\n{doc}{body}"


def _house(rng: random.Random) -> str:
    lines = []
    for _ in range(rng.randint(2, 8)):
        corners = " ".join(str(rng.randint(0, 12)) for _ in range(6))
        lines.append(f"/fill {corners} {_word(rng, 'block')}")
    attack = rng.choice(["/kill @e[type=spider]", "/damage @e[type=spider,limit=1] 4 minecraft:player attack"])
    return "\n".join([*lines, attack] if rng.random() < 0.3 else lines)
