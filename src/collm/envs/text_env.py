"""What the built-in tasks share: turns, spaces, m_t, checked actions and the prompts' frame (contract: `collm.envs.base`).

A task says how an episode begins, what an agent reads first, how a joint action is judged and what is told after it;
everything else is here.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

from collm.envs.base import StateDict, text_space
from collm.errors import EnvContractError
from collm.types import TaskRow

MAX_ACTION = 65536
"""Characters of the declared action space."""
MAX_OBSERVATION = 2 * MAX_ACTION
"""Characters; an observation may quote a whole previous response."""

History = Literal["full", "last"]


@dataclass(frozen=True, slots=True)
class Frame:
    """What surrounds a task: its names, its turn limit H, the largest reward of a turn, and what feedback repeats."""

    name: str
    """As in `task.name`."""
    title: str
    """As a person writes it."""
    turns: int
    max_reward: float
    history: History
    original_prompt: bool = True
    previous_response: bool = True


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one joint action came to."""

    reward: float
    solved: bool
    metrics: dict[str, float]
    details: dict[str, Any] = field(default_factory=dict)
    """JSON-ready, for people: what was built, which tests failed. Written to episodes.jsonl."""


class TextTaskEnv(ParallelEnv[str, str, str]):
    """A built-in task of up to `turns` turns.

    With `history="full"` the agents keep their own history, so that feedback repeats neither the first prompt nor their
    previous response; with "last" it repeats both, as far as the frame says. A reset without a seed goes on with the
    generator, which starts from 0.
    """

    def __init__(self, frame: Frame, n_agents: int) -> None:
        self.metadata = {"name": f"{frame.name}_v0", "render_modes": []}
        self._frame = frame
        self.possible_agents = [f"agent_{i}" for i in range(n_agents)]
        self.agents: list[str] = []
        self._spaces: dict[tuple[str, int], spaces.Text] = {}  # made on demand: rollouts copy environments and never ask
        self._rng = np.random.default_rng(0)
        self._turn = 0
        """Turns played."""
        self._reward = 0.0
        """The last turn's."""

    @abstractmethod
    def _begin(self, row: TaskRow | None) -> None:
        """Start an episode on a row; None draws a built-in one by `self._rng`. Raises DataError for a row it cannot use."""

    @abstractmethod
    def _first_prompt(self, agent: int) -> str:
        """The prompt of turn 1 for agent number `agent` (from 0)."""

    @abstractmethod
    def _judge(self, responses: Sequence[str]) -> Judgement:
        """Carry out one response per agent. Never raises for any text."""

    @abstractmethod
    def _feedback(self, agent: int) -> str:
        """What an agent is told before the next turn; `self._turn` turns have been played."""

    def observation_space(self, agent: str) -> spaces.Space[str]:
        return self._space(agent, MAX_OBSERVATION)

    def action_space(self, agent: str) -> spaces.Space[str]:
        return self._space(agent, MAX_ACTION)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, str], dict[str, Any]]:
        """Start an episode. Raises DataError for a row that the task cannot use."""
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self._begin(None if options is None else options.get("task"))
        self._turn, self._reward = 0, 0.0
        self.agents = list(self.possible_agents)
        return {a: self._first_prompt(i) for i, a in enumerate(self.agents)}, {a: {} for a in self.agents}

    def step(self, actions: dict[str, str]) -> tuple[dict[str, str], dict[str, float], dict[str, bool], dict[str, bool], dict[str, Any]]:
        """Judge one response per agent."""
        agents, frame = self._checked_agents(actions), self._frame
        judged = self._judge([actions[agent] for agent in agents])
        self._turn, self._reward = self._turn + 1, judged.reward
        truncated = not judged.solved and self._turn >= frame.turns
        over = judged.solved or truncated
        observations = {a: self._final_text() if over else self._observe(i, actions[a]) for i, a in enumerate(agents)}
        if over:
            self.agents = []
        return (
            observations,
            dict.fromkeys(agents, judged.reward),
            dict.fromkeys(agents, judged.solved),
            dict.fromkeys(agents, truncated),
            {a: {"metrics": dict(judged.metrics), "details": judged.details} for a in agents},
        )

    def state(self) -> StateDict:  # type: ignore[override]
        """m_t: turn index (from 0), number of turns, last turn's reward over the largest reward."""
        turns, share = self._frame.turns, self._reward / self._frame.max_reward
        features = np.array([self._turn, turns, share], dtype=np.float32)
        place = f"Turn {self._turn + 1} of {turns}."
        if self._turn and not self.agents:
            place = f"Finished after turn {self._turn} of {turns}."
        return {"text": f"{place} Last reward {share:z.2f} of 1.", "features": features}

    def _final_text(self) -> str:
        """The observation after the last turn."""
        frame = self._frame
        return f"Finished after turn {self._turn} of {frame.turns}. Score {self._reward:z.2f} of {frame.max_reward}."

    def _observe(self, agent: int, response: str) -> str:
        """The feedback, then the original prompt, then the agent's own previous response, each where given."""
        frame = self._frame
        parts = [self._feedback(agent)]
        if frame.history == "last" and frame.original_prompt:
            parts.append(self._first_prompt(agent))
        if frame.history == "last" and frame.previous_response:
            parts.append(f"Your previous response:\n{response}")
        return "\n\n".join(parts)

    def _checked_agents(self, actions: dict[str, str]) -> list[str]:
        """The agents of the running episode, each of whose actions is text."""
        title = self._frame.title
        if not self.agents:
            raise EnvContractError(f"{title}: step was called with no episode running; call reset first")
        for agent in self.agents:
            if agent not in actions:
                raise EnvContractError(f"{title}: no action for {agent} (got: {', '.join(map(str, actions)) or 'none'})")
            if not isinstance(actions[agent], str):
                raise EnvContractError(f"{title}: the action of {agent} is {type(actions[agent]).__name__}, not text")
        return list(self.agents)

    def _space(self, agent: str, max_length: int) -> spaces.Text:
        if agent not in self.possible_agents:
            raise EnvContractError(f"{self._frame.title}: no agent {agent!r}; the agents are {', '.join(self.possible_agents)}")
        if (agent, max_length) not in self._spaces:
            self._spaces[agent, max_length] = text_space(max_length)
        return self._spaces[agent, max_length]
