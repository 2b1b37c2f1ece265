"""Environments of a few lines, importable as `toy_envs:LettersEnv` where tests/ is on the module path."""

from __future__ import annotations

from typing import Any

import numpy as np
from pettingzoo import ParallelEnv

LOWER_CASE = "abcdefghijklmnopqrstuvwxyz"


class LettersEnv(ParallelEnv[str, str, str]):
    """Agents are paid for the share of `letters` in what they write, plus `base`, on each of `turns` turns.

    A share above `solved_above` ends the episode as solved. Prompts differ by seed, task row, turn and agent.
    """

    def __init__(self, n: int = 2, turns: int = 2, letters: str = LOWER_CASE, base: float = 0.0, solved_above: float = 2.0) -> None:
        self.metadata = {"name": "letters_v0"}
        self.possible_agents = [f"agent_{i}" for i in range(n)]
        self.agents: list[str] = []
        self._turns, self._letters, self._base, self._solved_above = turns, letters, base, solved_above
        self._turn, self._share, self._word = 0, 0.0, ""

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, str], dict[str, Any]]:
        row = (options or {}).get("task")
        rng = np.random.default_rng(seed)
        self._word = row["word"] if row else "".join(rng.choice(list("xyz"), size=rng.integers(1, 5)))
        self._turn, self._share, self.agents = 0, 0.0, list(self.possible_agents)
        return self._observations(), {a: {} for a in self.agents}

    def step(self, actions: dict[str, str]) -> tuple[dict[str, str], dict[str, float], dict[str, bool], dict[str, bool], dict[str, Any]]:
        text = "".join(actions[a] for a in self.possible_agents)
        self._share = sum(c in self._letters for c in text) / max(1, len(text))
        self._turn += 1
        solved = self._share > self._solved_above
        over = not solved and self._turn >= self._turns
        agents, reward = self.agents, self._base + self._share
        if solved or over:
            self.agents = []
        infos = {a: {"metrics": {"share": self._share}} for a in agents}
        return self._observations(), dict.fromkeys(agents, reward), dict.fromkeys(agents, solved), dict.fromkeys(agents, over), infos

    def state(self) -> dict[str, Any]:  # type: ignore[override]
        features = np.array([self._turn / self._turns, self._share], dtype=np.float32)
        return {"text": f"turn {self._turn} of {self._turns}, last {self._share:.2f}", "features": features}

    def _observations(self) -> dict[str, str]:
        return {a: f"{self._word} {self._turn} {i}" for i, a in enumerate(self.possible_agents)}
