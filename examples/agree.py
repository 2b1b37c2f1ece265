"""An environment of one's own: two agents, who cannot see each other, should use the same words.

collm train examples.agree:AgreeEnv training.updates=20
"""

import numpy as np
from pettingzoo import ParallelEnv

from collm.envs.base import text_space


class AgreeEnv(ParallelEnv):
    metadata = {"name": "agree"}

    def __init__(self, turns: int = 2):
        self.turns = turns
        self.possible_agents = ["agent_0", "agent_1"]
        self.observation_spaces = self.action_spaces = dict.fromkeys(self.possible_agents, text_space())

    def reset(self, seed=None, options=None):
        self.agents, self.turn, self.reward = list(self.possible_agents), 0, 0.0
        return dict.fromkeys(self.agents, "Build the string LI with the words your partner will use."), dict.fromkeys(self.agents, {})

    def step(self, actions):
        mine, theirs = (set(text.split()) for text in actions.values())
        self.reward = len(mine & theirs) / max(1, len(mine | theirs))
        self.turn += 1
        agents, over = self.agents, self.turn >= self.turns
        self.agents = [] if over else agents
        infos = {a: {"metrics": {"shared_words": float(len(mine & theirs))}} for a in agents}
        observations = dict.fromkeys(agents, f"You agreed on {self.reward:.0%}. Again.")
        return observations, dict.fromkeys(agents, self.reward), dict.fromkeys(agents, False), dict.fromkeys(agents, over), infos

    def state(self):  # m_t: what the critic may know beyond the histories
        return {"text": f"turn {self.turn} of {self.turns}", "features": np.array([self.turn / self.turns, self.reward], dtype=np.float32)}
