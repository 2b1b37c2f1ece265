"""StrBuild as a PettingZoo environment (contract: `collm.envs.base`)."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

from collm.config.schema import StrBuildTask
from collm.envs.base import StateDict, text_space
from collm.envs.minecraft.commands import World, accepted_commands, run_commands, setblock_parser
from collm.envs.strbuild.feedback import feedback, final_text, first_prompt, next_prompt
from collm.envs.strbuild.glyphs import Cell2, Layout
from collm.envs.strbuild.rows import BUILT_IN_ROWS, row_layout
from collm.envs.strbuild.rules import resolve_rules
from collm.envs.strbuild.scoring import score_build
from collm.errors import EnvContractError

MAX_ACTION = 65536
"""Characters of the declared action space."""
MAX_OBSERVATION = 2 * MAX_ACTION
"""Characters; an observation may quote a whole previous response."""


class StrBuildEnv(ParallelEnv[str, str, str]):
    """Agents place blocks that spell a string, for up to `task.turns` turns.

    With `history="full"` the agents keep their own history, so that feedback repeats neither the first prompt nor their
    previous response; with "last" it repeats both, as far as the task's settings say.

    Without a row in `reset(options={"task": row})` one of the built-in strings is drawn by the seed. A reset without a seed
    goes on with the generator, which starts from 0.
    """

    def __init__(self, task: StrBuildTask, n_agents: int, history: Literal["full", "last"] = "full") -> None:
        self.metadata = {"name": "strbuild_v0", "render_modes": []}
        self._rules = resolve_rules(task, n_agents)
        self._history = history
        self.possible_agents = [f"agent_{i}" for i in range(n_agents)]
        self.agents: list[str] = []
        self._spaces: dict[tuple[str, int], spaces.Text] = {}  # made on demand: rollouts copy environments and never ask
        self._rng = np.random.default_rng(0)
        self._layout: Layout | None = None
        self._world: World = {}
        self._turn = 0
        self._reward = 0.0

    def observation_space(self, agent: str) -> spaces.Space[str]:
        return self._space(agent, MAX_OBSERVATION)

    def action_space(self, agent: str) -> spaces.Space[str]:
        return self._space(agent, MAX_ACTION)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, str], dict[str, Any]]:
        """Start an episode. Raises DataError for a row without a usable string."""
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        row = None if options is None else options.get("task")
        if row is None:
            row = BUILT_IN_ROWS[int(self._rng.integers(len(BUILT_IN_ROWS)))]
        self._layout = row_layout(row, self._rules.blank_unknown)
        self._world, self._turn, self._reward = {}, 0, 0.0
        self.agents = list(self.possible_agents)
        observations = {a: first_prompt(self._layout, self._rules, i) for i, a in enumerate(self.agents)}
        return observations, {a: {} for a in self.agents}

    def step(self, actions: dict[str, str]) -> tuple[dict[str, str], dict[str, float], dict[str, bool], dict[str, bool], dict[str, Any]]:
        """Run every agent's commands, agent by agent, and score what stands."""
        layout, rules, agents = self._running(actions), self._rules, list(self.agents)
        if rules.world == "reset":
            self._world = {}
        accepted = 0
        for i, agent in enumerate(agents):
            commands = accepted_commands(actions[agent], setblock_parser(rules.palettes[i], layout.box), rules.limits[i])
            run_commands(self._world, commands)
            accepted += len(commands)
        score = score_build(self._blocks(), layout, rules)
        self._turn, self._reward = self._turn + 1, score.reward
        terminated = score.reward > rules.solved_above
        truncated = not terminated and self._turn >= rules.turns
        observations = {a: self._observe(layout, i, actions[a], terminated or truncated) for i, a in enumerate(agents)}
        metrics = {**score.metrics(), "accepted_commands": float(accepted)}
        if terminated or truncated:
            self.agents = []
        return (
            observations,
            dict.fromkeys(agents, score.reward),
            dict.fromkeys(agents, terminated),
            dict.fromkeys(agents, truncated),
            {a: {"metrics": dict(metrics)} for a in agents},
        )

    def state(self) -> StateDict:  # type: ignore[override]
        """m_t: turn index (from 0), number of turns, last turn's reward over the largest reward."""
        share = self._reward / self._rules.coverage_weight
        features = np.array([self._turn, self._rules.turns, share], dtype=np.float32)
        place = f"Turn {self._turn + 1} of {self._rules.turns}."
        if self._turn and not self.agents:
            place = f"Finished after turn {self._turn} of {self._rules.turns}."
        return {"text": f"{place} Last reward {share:z.2f} of 1.", "features": features}

    def _running(self, actions: dict[str, str]) -> Layout:
        """The layout of the running episode, with the actions checked."""
        if self._layout is None or not self.agents:
            raise EnvContractError("StrBuild: step was called with no episode running; call reset first")
        for agent in self.agents:
            if agent not in actions:
                raise EnvContractError(f"StrBuild: no action for {agent} (got: {', '.join(map(str, actions)) or 'none'})")
            if not isinstance(actions[agent], str):
                raise EnvContractError(f"StrBuild: the action of {agent} is {type(actions[agent]).__name__}, not text")
        return self._layout

    def _space(self, agent: str, max_length: int) -> spaces.Text:
        if agent not in self.possible_agents:
            raise EnvContractError(f"StrBuild: no agent {agent!r}; the agents are {', '.join(self.possible_agents)}")
        if (agent, max_length) not in self._spaces:
            self._spaces[agent, max_length] = text_space(max_length)
        return self._spaces[agent, max_length]

    def _blocks(self) -> dict[Cell2, str]:
        return {(x, y): block for (x, y, _), block in self._world.items()}

    def _observe(self, layout: Layout, i: int, response: str, over: bool) -> str:
        rules = self._rules
        if over:
            return final_text(rules, self._turn, self._reward)
        told = feedback(layout, rules, i, self._turn + 1, self._reward, self._blocks())
        repeat = self._history == "last"
        original = first_prompt(layout, rules, i) if repeat and rules.original_prompt else None
        return next_prompt(told, original, response if repeat and rules.previous_response else None)
