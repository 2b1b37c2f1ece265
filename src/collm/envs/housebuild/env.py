"""HouseBuild as a PettingZoo environment (contract: `collm.envs.base`).

Chance plays a part at reset only, so copies of a running episode need no generators of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from collm.config.tasks import HouseBuildTask
from collm.envs.housebuild.blueprint import Blueprint, row_blueprint
from collm.envs.housebuild.feedback import Standing, feedback, first_prompt
from collm.envs.housebuild.houses import BUILT_IN_ROWS
from collm.envs.housebuild.rules import resolve_rules
from collm.envs.housebuild.scoring import score_build
from collm.envs.housebuild.spiders import Battle, Threat, draw_attacks, fight, meet, row_spiders
from collm.envs.minecraft.commands import World, accepted_commands
from collm.envs.minecraft.fill import Attack, HouseCommand, fill_parser, run_fills
from collm.envs.text_env import Frame, History, Judgement, TextTaskEnv
from collm.types import TaskRow


class HouseBuildEnv(TextTaskEnv):
    """Agents build a house from its blueprint and fight spiders, for up to `task.turns` turns.

    Without a row in `reset(options={"task": row})` one of the built-in houses is drawn by the seed. A row's `spiders` and
    `player_hp` win over the configuration. Raises ConfigError for settings that do not fit.
    """

    def __init__(self, task: HouseBuildTask, n_agents: int, history: History = "full") -> None:
        self._rules = rules = resolve_rules(task, n_agents)
        frame = Frame("housebuild", "HouseBuild", rules.turns, rules.max_reward, history, task.original_prompt, task.previous_response)
        super().__init__(frame, n_agents)
        self._blueprint: Blueprint = row_blueprint(BUILT_IN_ROWS[0])
        self._world: World = {}
        self._battle: Battle = meet(Threat(), None)
        self._accepted: list[list[HouseCommand]] = [[] for _ in range(n_agents)]
        """The last turn's."""

    def _begin(self, row: TaskRow | None) -> None:
        if row is None:
            row = BUILT_IN_ROWS[int(self._rng.integers(len(BUILT_IN_ROWS)))]
        self._blueprint, self._world = row_blueprint(row), {}
        self._battle = meet(self._draw_threat(row), self._rules.spiders)
        self._accepted = [[] for _ in self.possible_agents]

    def _draw_threat(self, row: TaskRow) -> Threat:
        rules = self._rules.spiders
        attacks, player_hp = row_spiders(row)
        if rules is None:
            return Threat()
        if attacks is None:
            attacks = draw_attacks(self._rng if rules.seed is None else np.random.default_rng(rules.seed), rules)
        return Threat(attacks, rules.player_hp if player_hp is None else player_hp)

    def _first_prompt(self, agent: int) -> str:
        return first_prompt(self._blueprint, self._rules, self._battle, agent)

    def _judge(self, responses: Sequence[str]) -> Judgement:
        """Run every agent's commands, agent by agent, let the spiders attack, and score what stands."""
        blueprint, rules = self._blueprint, self._rules
        if rules.world == "reset":
            self._world = {}
        self._accepted = []
        for agent, response in enumerate(responses):
            parse = fill_parser(rules.resources(agent, blueprint.counts), blueprint.box, rules.damage_command)
            self._accepted.append(accepted_commands(response, parse, rules.limits[agent]))
            run_fills(self._world, self._accepted[-1])
        strikes = sum(isinstance(command, Attack) for commands in self._accepted for command in commands)
        self._battle = battle = fight(self._battle, strikes, rules.spiders)
        score = score_build(self._world, blueprint, battle.lost, rules)
        metrics = {
            **score.metrics(),
            "hp": battle.health,
            "damage": battle.turn_damage,
            "spiders_alive": float(len(battle.living)),
            "accepted_commands": float(sum(map(len, self._accepted))),
        }
        return Judgement(score.reward, rules.ends_when_built and score.built, metrics, self._details())

    def _details(self) -> dict[str, Any]:
        battle = self._battle
        return {
            "blocks": [[*cell, block] for cell, block in sorted(self._world.items())],
            "target": [[*cell, block] for cell, block in sorted(self._blueprint.cells.items())],
            "accepted": [[command.line for command in commands] for commands in self._accepted],
            "spiders": {
                "attacks": list(battle.threat.attacks),
                "alive": list(battle.living),
                "player_hp": battle.threat.player_hp,
                "health": battle.health_left,
            },
        }

    def _feedback(self, agent: int) -> str:
        now = Standing(self._world, self._battle, self._accepted, self._reward)
        return feedback(self._blueprint, self._rules, agent, self._turn + 1, now)
