"""A game that isolates what makes credit hard: a long horizon, one late reward, and partners who cannot see each other's task.

Each turn every agent is shown a symbol of its own, x or y, and should answer with it. A turn is worth 1/H if all do. With
`sparse` the whole sum is paid at the last turn and nothing before, so that a learner has to find out which turns earned it.
"""

import numpy as np
from pettingzoo import ParallelEnv

from collm.envs.base import text_space


class RelayEnv(ParallelEnv):
    metadata = {"name": "relay"}

    def __init__(self, turns: int = 4, sparse: bool = True, agents: int = 2):
        self.turns, self.sparse = turns, sparse
        self.possible_agents = [f"agent_{i}" for i in range(agents)]
        self.observation_spaces = self.action_spaces = dict.fromkeys(self.possible_agents, text_space())

    def reset(self, seed=None, options=None):
        self.agents, self.turn, self.earned = list(self.possible_agents), 0, 0.0
        self.rng = np.random.default_rng(seed)
        self.symbols = self._show()
        return dict(self.symbols), dict.fromkeys(self.agents, {})

    def reseed(self, seed):  # the branches of a rollout tree see symbols of their own
        self.rng = np.random.default_rng(seed)

    def step(self, actions):
        right = float(all(text.strip() == self.symbols[agent] for agent, text in actions.items()))
        self.earned += right / self.turns
        self.turn += 1
        over = self.turn >= self.turns
        reward = (self.earned if over else 0.0) if self.sparse else right / self.turns
        agents = list(actions)
        self.agents = [] if over else agents
        self.symbols = self._show()
        infos = {agent: {"metrics": {"right": right}} for agent in agents}
        flags = dict.fromkeys(agents, False), dict.fromkeys(agents, over)
        return {a: self.symbols[a] for a in agents}, dict.fromkeys(agents, reward), *flags, infos

    def state(self):
        return {"text": f"turn {self.turn} of {self.turns}", "features": np.array([self.turn / self.turns], dtype=np.float32)}

    def _show(self):
        return {agent: "xy"[self.rng.integers(2)] for agent in self.possible_agents}
