"""MARLOO: the baseline is the mean of the other samples (paper section 3, Eq. 1 with a leave-one-out b). One agent: RLOO.

    A^k = G^k - 1/(K-1) sum_{j != k} G^j

The baseline does not contain the sample, so the gradient is unbiased.
"""

from __future__ import annotations

import numpy as np


class MARLOO:
    name = "marloo"
    plays_greedy = False

    def advantages(self, G_K: np.ndarray, greedy_return: float | None) -> np.ndarray:
        others_K = (G_K.sum() - G_K) / (len(G_K) - 1)
        return G_K - others_K
