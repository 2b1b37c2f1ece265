"""Critics that have converged exactly: E[G_t | what the critic reads], by sums over trajectories.

What a critic reads is written out here once more, from the contract in `models/critic_input`: every agent's turns, tagged
where it reads several agents', then m_t. Its values are looked up by that text, so a production reader that shows another
turn gets another value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch

from collm.errors import CollmError
from collm.models.host import Host
from collm.models.loading import LoadedModel
from collm.models.member import Metrics, ValueLoss
from collm.models.seeds import derive_seed
from collm.models.sequences import ValueInput
from collm.models.text import ids_text
from collm.verify.exact import Exact, Trajectory

Table = dict[str, float]
"""Values by what the critic reads."""
Kind = Literal["v", "q"]
History = Literal["full", "last"]


class UnknownInputError(CollmError):
    """A critic was shown a text that is no history of the problem."""


def critic_text(
    names: Sequence[str], reads: Sequence[int], trajectory: Trajectory, turn: int, history: History, kind: Kind, info: bool
) -> str:
    """What a critic of agents `reads` has before it at `turn`; with `info` m_t as text."""
    text, named = "", len(reads) > 1
    for t in range(turn + 1) if history == "full" else (turn,):
        step = trajectory.steps[t]
        text += "".join((f"[{names[i]} sees]\n" if named else "") + f"{step.observations[i]}\n" for i in reads)
        text += f"[info] {step.info}\n" if info else ""
        if t < turn or kind == "q":
            text += "".join((f"[{names[i]} says]\n" if named else "> ") + f"{step.texts[i]}\n" for i in reads)
    return text


class CriticTexts:
    """What one critic reads at every turn of every trajectory; None after the end."""

    def __init__(self, exact: Exact, reads: Sequence[int], history: History, kind: Kind, info: bool = True) -> None:
        self._exact = exact
        names = exact.problem.names
        self.text_RH = [
            [critic_text(names, reads, trajectory, t, history, kind, info) for t in range(len(trajectory.steps))]
            for trajectory in exact.trajectories
        ]

    def converged(self) -> Table:
        """E[G_t | text] of every text."""
        probability_R, G_RH = self._exact.probability_R, self._exact.return_RH
        mass: Table = {}
        total: Table = {}
        for r, texts in enumerate(self.text_RH):
            for t, text in enumerate(texts):
                mass[text] = mass.get(text, 0.0) + probability_R[r]
                total[text] = total.get(text, 0.0) + probability_R[r] * G_RH[r, t]
        return {text: total[text] / mass[text] for text in mass}

    def values(self, table: Table) -> np.ndarray:
        """V of every turn, (R, H + 1), 0 after the end."""
        found_RH = np.zeros((len(self.text_RH), self._exact.horizon + 1))
        for r, texts in enumerate(self.text_RH):
            found_RH[r, : len(texts)] = [table[text] for text in texts]
        return found_RH


def wrong(table: Table, size: float) -> Table:
    """A critic that has not converged: every value off by a normal number that depends on the text alone."""
    return {text: v + size * float(np.random.default_rng(derive_seed("wrong", text)).normal()) for text, v in table.items()}


def lambda_advantages(exact: Exact, value_RH: np.ndarray, lam: float) -> np.ndarray:
    """A^(lambda) by its definition, the weighted mean of n-step advantages, (R, H).

    (1 - lambda) sum_{n=1}^{m-1} lambda^(n-1) A^(n) + lambda^(m-1) A^(m), with m turns left: A^(n) = sum_{k<n} gamma^k r_{t+k} +
    gamma^n V_{t+n} - V_t. `value_RH` has H + 1 columns.
    """
    gamma = exact.problem.discount
    found_RH = np.zeros_like(exact.reward_RH)
    for r, alive_H in enumerate(exact.alive_RH):
        length = int(alive_H.sum())
        for t in range(length):
            left = length - t
            for n in range(1, left + 1):
                rewards = sum(gamma**k * exact.reward_RH[r, t + k] for k in range(n))
                ahead = gamma**n * value_RH[r, t + n] if n < left else 0.0
                share = lam ** (left - 1) if n == left else (1 - lam) * lam ** (n - 1)
                found_RH[r, t] += share * (rewards + ahead - value_RH[r, t])
    return found_RH


class TableHost(Host):
    """A critic whose values are looked up and which is never trained.

    Raises UnknownInputError for an input that is no history.
    """

    def __init__(self, name: str, loaded: LoadedModel, table: Table) -> None:
        super().__init__(name, loaded, torch.device("cpu"), 1 << 14, False)
        self._table = table

    def values(self, member: str, inputs: Sequence[ValueInput], slow: bool = False) -> list[list[float]]:
        return [[self._value(i.ids[: p + 1]) for p in i.positions] for i in inputs]

    def learn_values(
        self, member: str, inputs: Sequence[ValueInput], complete: Callable[[int, list[float]], ValueInput], loss: ValueLoss
    ) -> tuple[list[list[float]], Metrics]:
        found = self.values(member, inputs)
        for i, values in enumerate(found):
            complete(i, values)
        return found, {}

    def _value(self, ids: tuple[int, ...]) -> float:
        text = ids_text(self.loaded.tokenizer, ids, special=True)
        if text not in self._table:
            raise UnknownInputError(f"critic {self.name} was shown {text!r}, which is no history")
        return self._table[text]
