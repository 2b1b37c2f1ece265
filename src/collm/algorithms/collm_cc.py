"""CoLLM-CC: one centralized critic over the joint history (paper section 4, Eq. 4 and 5).

    delta_t = r_t + gamma V_phi(h_{t+1}, m_{t+1}) - V_phi(h_t, m_t),   V = 0 after the last turn
    grad J_i = E[ sum_t rho_{i,t} grad log pi_i(a_{i,t} | h_{i,t}) delta_t ]
    L(phi)  = E[ sum_t (r_t + gamma V_phi(h_{t+1}, m_{t+1}) - V_phi(h_t, m_t))^2 ],   target held fixed

Every agent is trained on the same delta_t. The critic takes one step per minibatch of joint transitions, however many
agents there are, and is not needed once training ends. With one agent this is single-agent actor-critic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from collm.algorithms.turns import TurnEstimator, TurnValues


class CoLLMCC:
    name = "collm-cc"

    def critics(self, agents: Sequence[str]) -> dict[str, tuple[str, ...]]:
        return {"critic": tuple(agents)}

    def advantages(
        self, rewards_H: np.ndarray, values: Mapping[str, TurnValues], agents: Sequence[str], estimator: TurnEstimator
    ) -> dict[str, np.ndarray]:
        delta_H = estimator.advantages(rewards_H, values["critic"])
        return dict.fromkeys(agents, delta_H)
