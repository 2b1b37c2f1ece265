"""What a method decides. Everything else of a run is the same for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from collm.algorithms.turns import TurnEstimator, TurnValues


class ActorCriticMethod(Protocol):
    """Which critics exist, what each reads, and whose TD error trains which agent."""

    @property
    def name(self) -> str: ...

    def critics(self, agents: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Critic names and the agents whose histories each one reads."""
        ...

    def advantages(
        self, rewards_H: np.ndarray, values: Mapping[str, TurnValues], agents: Sequence[str], estimator: TurnEstimator
    ) -> dict[str, np.ndarray]:
        """The advantage (H,) of every turn per agent, from the shared rewards (H,) and each critic's values of one episode."""
        ...


class MonteCarloMethod(Protocol):
    """What the returns of a group of K samples at one node of a rollout tree are compared with."""

    @property
    def name(self) -> str: ...

    @property
    def plays_greedy(self) -> bool:
        """Whether every node also plays the greedy responses to the end, for a baseline."""
        ...

    def advantages(self, G_K: np.ndarray, greedy_return: float | None) -> np.ndarray:
        """Advantages (K,) of one agent's K responses at a node, from their returns (K,)."""
        ...


Method = ActorCriticMethod | MonteCarloMethod
