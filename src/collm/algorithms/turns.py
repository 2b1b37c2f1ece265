"""Advantages and value targets over the turns of one episode. Pure functions on numbers, no models.

Shapes: `_H` turns of one episode.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True, slots=True)
class TurnValues:
    """A critic's values along an episode.

    `V_H` (H,): V(h_t, m_t), or Q(h_t, m_t, a_t). `next_H` (H,): what turn t bootstraps from, V(h_{t+1}, m_{t+1}) or the
    next Q, of the slow copy where there is one; 0 after the last turn.
    """

    V_H: np.ndarray
    next_H: np.ndarray


@dataclass(frozen=True, slots=True)
class TurnEstimator:
    """How far a turn looks ahead. With `gae_lambda` 0 and `n_step` 1 it is the paper's TD error."""

    discount: float
    gae_lambda: float = 0.0
    n_step: int = 1
    kind: Literal["v", "q"] = "v"

    def targets(self, rewards_H: np.ndarray, values: TurnValues) -> np.ndarray:
        """What the critic is regressed on, (H,).

        r_t + gamma V(h_{t+1}, m_{t+1}) (Eq. 3 and 5); with `n_step` n the sum of n discounted rewards and gamma^n times
        the value after them; with `gae_lambda` V + A, the lambda-return.
        """
        if self.gae_lambda > 0:
            return values.V_H + generalised_advantages(rewards_H, values, self.discount, self.gae_lambda)
        return n_step_returns(rewards_H, values.next_H, self.discount, self.n_step)

    def advantages(self, rewards_H: np.ndarray, values: TurnValues) -> np.ndarray:
        """delta_t = r_t + gamma V(h_{t+1}, m_{t+1}) - V(h_t, m_t), (H,) (Eq. 2 and 4), or its longer forms.

        With Q the advantage is Q(h_t, m_t, a_t) itself, the policy-gradient theorem's weight; a baseline comes from
        advantage normalisation.
        """
        return values.V_H if self.kind == "q" else self.targets(rewards_H, values) - values.V_H


def n_step_returns(rewards_H: np.ndarray, next_H: np.ndarray, discount: float, n: int) -> np.ndarray:
    """sum_{k<n} gamma^k r_{t+k} + gamma^n V_{t+n}, (H,); near the end fewer turns are left, and `next_H` says what follows."""
    horizon = len(rewards_H)
    returns_H = np.empty(horizon)
    for t in range(horizon):
        last = min(t + n, horizon) - 1
        powers = discount ** np.arange(last - t + 2)
        returns_H[t] = (powers[:-1] * rewards_H[t : last + 1]).sum() + powers[-1] * next_H[last]
    return returns_H


def generalised_advantages(rewards_H: np.ndarray, values: TurnValues, discount: float, lam: float) -> np.ndarray:
    """GAE over turns: A_t = sum_k (gamma lambda)^k delta_{t+k}, (H,) (Schulman et al. 2016, Eq. 16)."""
    delta_H = rewards_H + discount * values.next_H - values.V_H
    advantages_H = np.empty_like(delta_H)
    following = 0.0
    for t in range(len(delta_H) - 1, -1, -1):
        following = delta_H[t] + discount * lam * following
        advantages_H[t] = following
    return advantages_H
