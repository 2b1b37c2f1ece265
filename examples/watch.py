"""Night watches: a team shares out the shifts of a post, each guard by itself, so that every shift has exactly one."""

import re

import numpy as np
from pettingzoo import ParallelEnv

from collm.envs.base import text_space


class WatchEnv(ParallelEnv):
    metadata = {"name": "watch"}

    def __init__(self, turns: int = 2, agents: int = 2, clash_cost: float = 0.5):
        self.turns, self.clash_cost = turns, clash_cost
        self.possible_agents = [f"agent_{i}" for i in range(agents)]
        self.observation_spaces = self.action_spaces = dict.fromkeys(self.possible_agents, text_space())

    def reset(self, seed=None, options=None):
        row = (options or {}).get("task") or {"post": "the gate", "shifts": 4}
        self.post, self.shifts = row["post"], range(row["shifts"])
        self.most = -(-row["shifts"] // len(self.possible_agents))  # nobody stands more than a fair share, rounded up
        self.agents, self.turn, self.covered = list(self.possible_agents), 0, 0
        prompts = {agent: self._prompt(number) for number, agent in enumerate(self.agents, 1)}
        return prompts, {agent: {} for agent in self.agents}

    def step(self, actions):
        taken = {agent: self._taken(text) for agent, text in actions.items()}
        guards = [sum(shift in chosen for chosen in taken.values()) for shift in self.shifts]
        self.covered, clashes = guards.count(1), sum(count > 1 for count in guards)
        self.turn += 1
        solved, agents = self.covered == len(self.shifts), self.agents
        reward = (self.covered - self.clash_cost * clashes) / len(self.shifts)
        reward += solved * (self.turns - self.turn)  # what is solved stays solved: to end early must not cost
        over = not solved and self.turn >= self.turns
        self.agents = [] if solved or over else agents
        info = {
            "metrics": {"covered": self.covered / len(self.shifts), "clashes": float(clashes)},
            "details": {"taken": taken, "guards per shift": guards},
        }
        told = f"Shifts without a guard: {self._listed(guards, 0)}. With several: {self._listed(guards, 2)}. Again."
        return (
            dict.fromkeys(agents, told),
            dict.fromkeys(agents, reward),
            dict.fromkeys(agents, solved),
            dict.fromkeys(agents, over),
            dict.fromkeys(agents, info),
        )

    def state(self):  # m_t: what the critic may know beyond the histories
        share = self.covered / len(self.shifts)
        text = f"Turn {self.turn} of {self.turns}, {self.covered} of {len(self.shifts)} shifts covered."
        return {"text": text, "features": np.array([self.turn / self.turns, share], dtype=np.float32)}

    def _taken(self, text):
        named = [int(digit) for digit in re.findall(r"\b\d\b", text)]
        return [shift for shift in dict.fromkeys(named) if shift in self.shifts][: self.most]

    def _prompt(self, number):
        return (
            f"You are guard {number} of {len(self.possible_agents)} at {self.post}. Shifts: {' '.join(map(str, self.shifts))}\n"
            f"Each shift needs exactly one guard. Answer with the numbers of the shifts you take, {self.most} at most."
        )

    def _listed(self, guards, least):
        chosen = [str(s) for s, count in enumerate(guards) if (count >= least if least else count == 0)]
        return " ".join(chosen) or "none"
