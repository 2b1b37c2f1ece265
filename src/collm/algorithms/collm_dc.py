"""CoLLM-DC: one decentralized critic per agent over its own history (paper section 4, Eq. 2 and 3).

    delta_{i,t} = r_t + gamma V_phi_i(h_{i,t+1}, m_{t+1}) - V_phi_i(h_{i,t}, m_t),   V = 0 after the last turn
    grad J_i = E[ sum_t rho_{i,t} grad log pi_i(a_{i,t} | h_{i,t}) delta_{i,t} ]
    L(phi_i) = E[ sum_t (r_t + gamma V_phi_i(h_{i,t+1}, m_{t+1}) - V_phi_i(h_{i,t}, m_t))^2 ],   target held fixed

The reward is the team's; a critic knows of the others only what reward and m_t let through. With `shared_backbone` phi_i
is a scalar head on the agent's own transformer, and policy and value loss share one forward pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from collm.algorithms.turns import TurnEstimator, TurnValues


class CoLLMDC:
    name = "collm-dc"

    def critics(self, agents: Sequence[str]) -> dict[str, tuple[str, ...]]:
        return {f"critic_{agent}": (agent,) for agent in agents}

    def advantages(
        self, rewards_H: np.ndarray, values: Mapping[str, TurnValues], agents: Sequence[str], estimator: TurnEstimator
    ) -> dict[str, np.ndarray]:
        return {agent: estimator.advantages(rewards_H, values[f"critic_{agent}"]) for agent in agents}
