"""The scripted noisy programmers whose code the tiny models imitate.

They act sensibly and on purpose not well: parts are taken wrongly, helpers come back without a return, brackets stay open, and
the entry point wraps, ignores or forgets its helper. Two conventions compete: the helper filters and transforms, or it only
filters and the entry point transforms; who mixes them fails. So reinforcement learning has something to do, and enough
variety to select from.
"""

from __future__ import annotations

import random
import re

from tiny_models.demos_coding_family import AGGREGATES, FILTERS, TRANSFORMS, Composition

WRONG_PART = 0.18
"""Of each of filter, transform and aggregate."""
BROKEN = 0.06
"""Text that does not parse; as often a function without a return."""
MISSING = 0.05
TRANSFORM_IN_MAIN = 0.3
"""Share of agents that follow the second convention, each by itself."""
IDLE_AUX = 0.08
"""Returns its argument."""
LOOP = 0.25
"""Writes a loop where a comprehension would do."""
MAIN_STYLES = {"aggregate": 0.62, "wrap": 0.12, "ignore": 0.1, "alone": 0.16}


def write_aux(rng: random.Random, composition: Composition, careful: bool) -> str:
    """A response of the helper's agent."""
    if careful:
        return _comprehension("aux", *_expressions(composition), loop=rng.random() < LOOP)
    if rng.random() < MISSING:
        return rng.choice(["def helper(values):\n    return values", "The helper picks the numbers.", "items = values"])
    told = _misread(rng, composition)
    change, condition = _expressions(told)
    if rng.random() < TRANSFORM_IN_MAIN:
        change = "v"
    if rng.random() < IDLE_AUX:
        code = "def aux(values):\n    return values"
    else:
        code = _comprehension("aux", change, condition, loop=rng.random() < LOOP)
    return _spoil(rng, code)


def write_main(rng: random.Random, composition: Composition, careful: bool) -> str:
    """A response of the entry point's agent, in a team of two."""
    if careful:
        return _main(AGGREGATES[composition.result].code, "aux(values)")
    if rng.random() < MISSING:
        return rng.choice(["def main(values):\n    return aux(values)", "Call aux and work on.", "items = aux(values)"])
    told = _misread(rng, composition)
    change, condition = _expressions(told)
    result = AGGREGATES[told.result].code
    match rng.choices(list(MAIN_STYLES), list(MAIN_STYLES.values()))[0]:
        case "wrap":
            code = rng.choice(
                ["def solve(values):\n    return aux(values)", "def solve(values):\n    items = aux(values)\n    return items"]
            )
        case "ignore":
            own = rng.choice(["values", f"[{change} for v in values if {condition}]"])
            code = f"def solve(values):\n    aux(values)\n    items = {own}\n    return {result}"
        case "alone":
            code = _main(result, rng.choice(["values", f"[{change} for v in values if {condition}]"]))
        case _:
            items = f"[{change} for v in aux(values)]" if change != "v" and rng.random() < TRANSFORM_IN_MAIN else "aux(values)"
            code = _main(result, items)
    return _spoil(rng, code)


def write_alone(rng: random.Random, composition: Composition, careful: bool) -> str:
    """A response of the only agent."""
    told = composition if careful else _misread(rng, composition)
    change, condition = _expressions(told)
    if not careful and rng.random() < 2 * MISSING:
        return rng.choice(["def main(values):\n    return values", "return values"])
    code = _main(AGGREGATES[told.result].code, f"[{change} for v in values if {condition}]")
    return code if careful else _spoil(rng, code)


def _expressions(composition: Composition) -> tuple[str, str]:
    return TRANSFORMS[composition.change], FILTERS[composition.chosen]


def _misread(rng: random.Random, composition: Composition) -> Composition:
    """The composition with each part replaced by another now and then."""
    chosen, change, result = composition.chosen, composition.change, composition.result
    if rng.random() < WRONG_PART:
        chosen = rng.choice(list(FILTERS))
    if rng.random() < WRONG_PART:
        change = rng.choice(list(TRANSFORMS))
    if rng.random() < WRONG_PART:
        result = rng.choice(list(AGGREGATES))
    return Composition(chosen, change, result)


def _comprehension(name: str, change: str, condition: str, loop: bool) -> str:
    if not loop:
        return f"def {name}(values):\n    return [{change} for v in values if {condition}]"
    body = f"    items = []\n    for v in values:\n        if {condition}:\n            items.append({change})\n    return items"
    return f"def {name}(values):\n{body}"


def _main(result: str, items: str) -> str:
    return f"def solve(values):\n    items = {items}\n    return {result}"


def _spoil(rng: random.Random, code: str) -> str:
    """The code, now and then without its return or with a slip of syntax."""
    if rng.random() < BROKEN:
        return re.sub(r"^    return ", "    items = ", code, flags=re.MULTILINE)
    if rng.random() >= BROKEN:
        return code
    match rng.choice(["colon", "bracket", "indent"]):
        case "colon":
            return code.replace("(values):", "(values)", 1)
        case "bracket":
            last = max(code.rfind(")"), code.rfind("]"))
            return code[:last] + code[last + 1 :]
        case _:
            head, _, last = code.rpartition("\n")
            return f"{head}\n  {last.lstrip()}"
