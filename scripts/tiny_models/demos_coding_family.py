"""The compositional problems: an aggregate of a transform of a filter of `values` (the built-in rows 0:40, and demonstrations).

A filter and a transform are the natural job of `aux`, an aggregate that of `solve`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

FILTERS: Mapping[str, str] = {
    "even numbers": "v % 2 == 0",
    "odd numbers": "v % 2 == 1",
    "positive numbers": "v > 0",
    "negative numbers": "v < 0",
    **{f"multiples of {k}": f"v % {k} == 0" for k in (3, 4, 5)},
    **{f"numbers above {k}": f"v > {k}" for k in (3, 5, 8)},
    **{f"numbers below {k}": f"v < {k}" for k in (2, 4, 7)},
}
"""Phrase -> condition on v."""

TRANSFORMS: Mapping[str, str] = {
    "": "v",
    "squares": "v * v",
    "cubes": "v ** 3",
    "doubles": "2 * v",
    "absolute values": "abs(v)",
    "last digits": "abs(v) % 10",
}
"""Phrase -> expression in v."""


@dataclass(frozen=True)
class Aggregate:
    """What is returned of the items."""

    sentence: str
    """With {} for the items in words."""
    code: str
    """An expression in `items`."""


AGGREGATES: Mapping[str, Aggregate] = {
    "sum": Aggregate("the sum of {}", "sum(items)"),
    "largest": Aggregate("the largest of {}, 0 if there are none", "max(items, default=0)"),
    "smallest": Aggregate("the smallest of {}, 0 if there are none", "min(items, default=0)"),
    "different": Aggregate("how many different values there are among {}", "len(set(items))"),
    "sorted": Aggregate("the sorted list of {}", "sorted(items)"),
    "reversed": Aggregate("the reversed list of {}", "items[::-1]"),
    "last": Aggregate("the last of {}, 0 if there are none", "items[-1] if items else 0"),
    "text": Aggregate("{} joined by commas, as text", '",".join(map(str, items))'),
}


@dataclass(frozen=True, order=True)
class Composition:
    """One problem of the family."""

    chosen: str
    """A key of FILTERS."""
    change: str
    """A key of TRANSFORMS."""
    result: str
    """A key of AGGREGATES."""

    @property
    def sentence(self) -> str:
        items = f"the {self.change} of the {self.chosen} in values" if self.change else f"the {self.chosen} in values"
        return f"Return {AGGREGATES[self.result].sentence.format(items)}."

    @property
    def prompt(self) -> str:
        return f'def solve(values):\n    """{self.sentence}"""\n'

    def value(self, values: list[int]) -> Any:
        """What solve(values) has to return."""
        condition, change = FILTERS[self.chosen], TRANSFORMS[self.change]
        items = [eval(change, {"v": v}) for v in values if eval(condition, {"v": v})]
        return eval(AGGREGATES[self.result].code, {"items": items})


HELD_OUT = (
    Composition("even numbers", "squares", "sum"),
    Composition("odd numbers", "doubles", "largest"),
    Composition("multiples of 3", "", "reversed"),
    Composition("negative numbers", "absolute values", "sorted"),
    Composition("numbers above 5", "last digits", "different"),
    Composition("positive numbers", "cubes", "last"),
    Composition("numbers below 4", "squares", "text"),
    Composition("multiples of 5", "doubles", "smallest"),
)
"""Never trained on and never demonstrated; each of their parts is, in other company."""


_SAME_END = {
    ("largest", "positive"),
    ("largest", "numbers above"),
    ("smallest", "negative"),
    ("smallest", "numbers below"),
}
"""The largest of the numbers above 5 is mostly the largest of all."""


def compositions() -> Iterator[Composition]:
    """All of the family but the held-out ones and those where a part makes no difference, in a fixed order."""
    for chosen in FILTERS:
        for change in TRANSFORMS:
            for result in AGGREGATES:
                composition = Composition(chosen, change, result)
                no_change = change == "absolute values" and chosen.startswith(("positive", "numbers above"))
                one_to_one = result == "different" and change not in ("", "last digits")
                same_end = (result, chosen.split()[0]) in _SAME_END or (result, " ".join(chosen.split()[:2])) in _SAME_END
                if not (no_change or one_to_one or same_end or composition in HELD_OUT):
                    yield composition


def inputs_for(rng: random.Random, composition: Composition, count: int = 6) -> list[list[int]]:
    """Lists that tell the composition from its neighbours; the last one holds nothing that passes the filter."""
    condition = FILTERS[composition.chosen]

    def passes(v: int) -> bool:
        return bool(eval(condition, {"v": v}))

    inputs: list[list[int]] = []
    while len(inputs) < count - 1:
        values = [rng.randint(-15, 20) for _ in range(rng.randint(5, 7))]
        kept = [v for v in values if passes(v)]
        if 3 <= len(kept) < len(values) and len(set(kept)) == len(kept):
            inputs.append([*values, rng.choice(kept)] if composition.result == "different" else values)
    inputs.append(rng.sample([v for v in range(-15, 21) if not passes(v)], 4))
    return inputs


def reference_aux(composition: Composition) -> str:
    """Filters and transforms."""
    return f"def aux(values):\n    return [{TRANSFORMS[composition.change]} for v in values if {FILTERS[composition.chosen]}]"


def reference_main(composition: Composition) -> str:
    """Aggregates what aux returns."""
    return f"def solve(values):\n    items = aux(values)\n    return {AGGREGATES[composition.result].code}"
