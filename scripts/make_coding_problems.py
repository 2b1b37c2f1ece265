"""Makes the built-in coding problems, src/collm/envs/coding/problems.jsonl: python scripts/make_coding_problems.py [--check]

Rows 0:32 train and 32:40 held out are drawn from the family of tiny_models/demos_coding_family.py, rows 40: are those of
coding_problems_by_hand.py. The same seed gives the same file; --check only compares.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from coding_problems_by_hand import PROBLEMS, ByHand
from tiny_models.demos_coding_family import (
    AGGREGATES,
    FILTERS,
    HELD_OUT,
    TRANSFORMS,
    Composition,
    compositions,
    inputs_for,
    reference_aux,
    reference_main,
)

FILE = Path(__file__).parents[1] / "src" / "collm" / "envs" / "coding" / "problems.jsonl"
SEED = 0
TRAIN = 32
_ATTEMPTS = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with the file instead of writing it")
    check = parser.parse_args().check
    text = "".join(f"{json.dumps(row)}\n" for row in rows())
    if not check:
        FILE.write_text(text, encoding="utf-8")
    elif FILE.read_text(encoding="utf-8") != text:
        sys.exit(f"{FILE} is not what this script makes; run it without --check")


def rows() -> Iterator[dict[str, Any]]:
    """All rows in their order."""
    rng = random.Random(SEED)
    for i, composition in enumerate([*training_compositions(rng), *HELD_OUT]):
        yield family_row(rng, composition, i)
    for i, problem in enumerate(PROBLEMS, start=TRAIN + len(HELD_OUT)):
        yield by_hand_row(problem, i)


def training_compositions(rng: random.Random) -> list[Composition]:
    """TRAIN compositions in which every part occurs about equally often."""
    left = list(compositions())
    rng.shuffle(left)
    used: Counter[str] = Counter()
    chosen: list[Composition] = []
    while len(chosen) < TRAIN:
        best = min(left, key=lambda c: used[c.chosen] / len(TRANSFORMS) + used[f"change {c.change}"] + used[f"result {c.result}"])
        left.remove(best)
        chosen.append(best)
        used.update([best.chosen, f"change {best.change}", f"result {best.result}"])
    return chosen


def family_row(rng: random.Random, composition: Composition, number: int) -> dict[str, Any]:
    tests = [f"    assert candidate({values}) == {composition.value(values)!r}" for values in telling_inputs(rng, composition)]
    return {
        "task_id": f"collm/{number}",
        "prompt": composition.prompt,
        "entry_point": "solve",
        "test": "\n".join(["def check(candidate):", *tests]) + "\n",
        "level": 1,
        "reference_aux": reference_aux(composition) + "\n",
        "reference_main": reference_main(composition) + "\n",
    }


def telling_inputs(rng: random.Random, composition: Composition) -> list[list[int]]:
    """Inputs on which every composition that differs in one part gives another result at least once."""
    for _ in range(_ATTEMPTS):
        inputs = inputs_for(rng, composition)
        if all(any(other.value(v) != composition.value(v) for v in inputs) for other in neighbours(composition)):
            return inputs
    raise SystemExit(f"no inputs tell {composition} from its neighbours")


def neighbours(composition: Composition) -> Sequence[Composition]:
    """Those that differ in one part, where the part makes a difference at all."""
    parts = [(f, composition.change, composition.result) for f in FILTERS if f != composition.chosen]
    parts += [(composition.chosen, c, composition.result) for c in TRANSFORMS if c != composition.change]
    parts += [(composition.chosen, composition.change, r) for r in AGGREGATES if r != composition.result]
    known = {*compositions(), *HELD_OUT}
    return [other for other in (Composition(*part) for part in parts) if other in known]


def by_hand_row(problem: ByHand, number: int) -> dict[str, Any]:
    return {
        "task_id": f"collm/{number}",
        "prompt": problem.prompt,
        "entry_point": problem.entry_point,
        "test": "\n".join(["def check(candidate):", *(f"    {test}" for test in problem.tests)]) + "\n",
        "level": problem.level,
        "reference_aux": problem.aux,
        "reference_main": problem.main,
    }


if __name__ == "__main__":
    main()
