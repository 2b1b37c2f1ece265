"""MAReMax: the baseline is the return of the greedy responses (paper section 3, Eq. 1; ReMax, Li et al. 2024).

    A^k = G^k - G^greedy

G^greedy is the return when every agent answers greedily from this node to the end; it is played and counted as env
steps. It does not depend on the samples, so the gradient is unbiased. `baseline: group_max` takes max_j G^j in its place,
as some code does: no extra rollout, but the maximum contains the sample itself and the gradient is biased.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True, slots=True)
class MAReMax:
    baseline: Literal["greedy", "group_max"] = "greedy"
    name: str = "maremax"

    @property
    def plays_greedy(self) -> bool:
        return self.baseline == "greedy"

    def advantages(self, G_K: np.ndarray, greedy_return: float | None) -> np.ndarray:
        if self.baseline == "group_max":
            return G_K - G_K.max()
        if greedy_return is None:
            raise ValueError("maremax: the node has no greedy rollout to compare with")
        return G_K - greedy_return
