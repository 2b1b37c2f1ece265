"""What a method decides: which critics exist, what each reads, and whose TD error trains which agent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np


class ActorCriticMethod(Protocol):
    """An actor-critic method. Everything else of a run is the same for all of them."""

    name: str
    description: str

    def critics(self, agents: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Critic names and the agents whose histories each one reads."""
        ...

    def advantages(
        self, rewards_H: np.ndarray, values: Mapping[str, np.ndarray], agents: Sequence[str], discount: float
    ) -> dict[str, np.ndarray]:
        """delta of shape (H,) per agent, from the shared rewards (H,) and each critic's values (H,) of one episode."""
        ...
