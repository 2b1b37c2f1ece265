"""Writes the built-in posts and abstracts of the tasks TLDR and arXiv.

    PYTHONPATH=src python scripts/make_writing_data.py

Sixty of each, from the hand-written parts in scripts/tiny_models. Every scene or field comes twice in the first 48 rows (to
train on) and at most once in the last 12 (to test on). With the same seed it writes the same files.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable
from pathlib import Path

from tiny_models.demos_writing_sources import Source, compose_abstract, compose_post, fields, scenes

TRAIN, TEST = 48, 12


def rows(compose: Callable[[random.Random, int], Source], kinds: int, column: str, rng: random.Random) -> list[dict[str, str]]:
    """Distinct rows, their kinds in rounds of random order."""
    order: list[int] = []
    while len(order) < TRAIN:
        order += rng.sample(range(kinds), kinds)
    order = order[:TRAIN] + rng.sample(range(kinds), TEST)
    made: list[str] = []
    for kind in order:
        text = compose(rng, kind).text
        while text in made:
            text = compose(rng, kind).text
        made.append(text)
    return [{column: text} for text in made]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("src/collm/envs/writing"), help="folder that receives both files")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    files = {
        "posts.jsonl": rows(compose_post, scenes(), "prompt", random.Random(args.seed)),
        "abstracts.jsonl": rows(compose_abstract, fields(), "abstract_text", random.Random(args.seed)),
    }
    for name, lines in files.items():
        (args.out / name).write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    main()
