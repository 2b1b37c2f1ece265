"""MAGRPO: the baseline is the mean of the group (paper section 3, Eq. 1 with b = group mean). One agent: GRPO.

    A^k = G^k - (1/K) sum_j G^j,   with `divide_by_std` divided by the standard deviation of the group

The mean contains the sample itself, so that without the division the expected gradient is (K - 1) / K times the
gradient: its direction exactly, its length known. The division weighs nodes by the inverse of their spread, which no
longer is the gradient of the return.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class MAGRPO:
    divide_by_std: bool = False
    name: str = "magrpo"
    plays_greedy: bool = False

    def advantages(self, G_K: np.ndarray, greedy_return: float | None) -> np.ndarray:
        A_K = G_K - G_K.mean()
        if not self.divide_by_std:
            return A_K
        deviation = G_K.std(ddof=1)
        # A group of equal returns says nothing about its samples.
        return A_K / deviation if deviation > 1e-8 else np.zeros_like(A_K)
