"""MA-REINFORCE: Monte-Carlo policy gradient of a team, without a baseline (paper section 3, Eq. 1).

    grad J_i = E[ sum_t rho_{i,t} grad log pi_i(a_{i,t} | h_{i,t}) G_{i,t} ]

G^k of sample k at a node is r^k + gamma times the mean return at its child (0 where there is none). Unbiased, with the
largest variance of the family.
"""

from __future__ import annotations

import numpy as np


class MAReinforce:
    name = "ma-reinforce"
    plays_greedy = False

    def advantages(self, G_K: np.ndarray, greedy_return: float | None) -> np.ndarray:
        return G_K
