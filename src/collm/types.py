"""Records shared by every layer.

Symbols follow the paper (arXiv 2601.21972): agent i, turn t, private history h_{i,t}, joint history h_t, macro-action
a_{i,t}, global information m_t. Tensor names elsewhere carry their dimensions as suffixes: `_B` batch, `_N` agents,
`_H` turns, `_K` branches, `_T` tokens, `_V` vocabulary, `_D` hidden.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

TaskRow = Mapping[str, Any]
"""One task of a data set, as it is handed to `env.reset(options={"task": row})`."""


class StopReason(StrEnum):
    """Why a response ended."""

    EOS = "eos"
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class Turn:
    """One agent's part of one turn: what it saw and the macro-action it sampled.

    `context_ids` is the whole token history h_{i,t} fed to the model; `response_ids` are the tokens as sampled, the
    closing EOS included when there was one. Neither is ever re-derived from text.
    """

    observation: str
    context_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    text: str
    stop: StopReason
    behaviour_logprob: float
    """log pi(a|h) in nats, summed over the response, under the (possibly truncated) sampling distribution."""
    kept_mass: float
    """Mean probability mass that top-k / top-p left in the support, over the response's positions (1 = nothing cut)."""
    dropped_turns: int
    """How many of the oldest turns no longer fit into the context window."""


@dataclass(frozen=True, slots=True)
class GlobalInfo:
    """m_t: what training may know beyond the joint history, as text and as numbers of shape (F,)."""

    text: str
    features: np.ndarray


@dataclass(slots=True)
class JointTransition:
    """(h_t, m_t, a_t, r_t) of one turn; o_{t+1} and m_{t+1} are the next transition of the same episode."""

    turn: int
    turns: dict[str, Turn]
    info: GlobalInfo
    reward: float
    terminated: bool
    truncated: bool
    metrics: dict[str, float]
    old_logprobs: dict[str, float] = field(default_factory=dict)
    """log pi_old(a_{i,t}|h_{i,t}) by teacher forcing; empty where nothing was updated since sampling (rho = 1)."""


@dataclass(slots=True)
class Episode:
    """One rollout: its joint transitions in order of turns."""

    id: str
    task: TaskRow | None
    seed: int
    update: int
    """The update in whose rollout it was sampled."""
    policy_version: int
    """How many policy optimizer steps had been taken when it was sampled."""
    transitions: list[JointTransition]

    @property
    def agents(self) -> list[str]:
        return list(self.transitions[0].turns)

    def discounted_return(self, discount: float) -> float:
        """sum_t discount^t r_t."""
        return float(sum(discount**tr.turn * tr.reward for tr in self.transitions))
