"""All executions of a program that makes random choices, each with its exact probability.

The program is run again and again; the oracle it asks repeats the choices of the last run up to the deepest one that has
another option left, and takes that. So the production rollout itself enumerates: whatever it asks for, in whatever order.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TypeVar

Result = TypeVar("Result")


class Oracle:
    """Answers random choices; `probability` is that of all answers of this run. Options of probability 0 are never taken."""

    def __init__(self) -> None:
        self._script: list[tuple[int, Sequence[float]]] = []
        self._at = 0
        self._coupled: dict[Hashable, int] = {}
        self.probability = 1.0

    def __deepcopy__(self, memo: dict[int, object]) -> Oracle:
        return self

    def begin(self) -> None:
        """Before each run of the program."""
        self._at, self.probability, self._coupled = 0, 1.0, {}

    def pick(self, probabilities: Sequence[float], couple: Hashable = None) -> int:
        """An option's index. Choices with the same `couple` key have one answer per run, which counts once."""
        if couple is not None and couple in self._coupled:
            return self._coupled[couple]
        if self._at == len(self._script):
            self._script.append((_next_option(probabilities, 0), probabilities))
        option = self._script[self._at][0]
        self._at += 1
        self.probability *= probabilities[option]
        if couple is not None:
            self._coupled[couple] = option
        return option

    def advance(self) -> bool:
        """On to the next run; False when there is none."""
        while self._script:
            option, probabilities = self._script.pop()
            following = _next_option(probabilities, option + 1)
            if following < len(probabilities):
                self._script.append((following, probabilities))
                return True
        return False


def executions(program: Callable[[Oracle], Result]) -> Iterator[tuple[float, Result]]:
    """(probability, result) of every possible run of `program`."""
    oracle = Oracle()
    while True:
        oracle.begin()
        result = program(oracle)
        yield oracle.probability, result
        if not oracle.advance():
            return


def _next_option(probabilities: Sequence[float], start: int) -> int:
    return next((i for i in range(start, len(probabilities)) if probabilities[i] > 0), len(probabilities))
