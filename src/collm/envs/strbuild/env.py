"""StrBuild as a PettingZoo environment (contract: `collm.envs.base`)."""

from __future__ import annotations

from collections.abc import Sequence

from collm.config.tasks import StrBuildTask
from collm.envs.minecraft.commands import World, accepted_commands, run_commands, setblock_parser
from collm.envs.strbuild.feedback import feedback, first_prompt
from collm.envs.strbuild.glyphs import Cell2, Layout, lay_out
from collm.envs.strbuild.rows import BUILT_IN_ROWS, row_layout
from collm.envs.strbuild.rules import resolve_rules
from collm.envs.strbuild.scoring import score_build
from collm.envs.text_env import Frame, History, Judgement, TextTaskEnv
from collm.types import TaskRow


class StrBuildEnv(TextTaskEnv):
    """Agents place blocks that spell a string, for up to `task.turns` turns.

    Without a row in `reset(options={"task": row})` one of the built-in strings is drawn by the seed.
    """

    def __init__(self, task: StrBuildTask, n_agents: int, history: History = "full") -> None:
        self._rules = rules = resolve_rules(task, n_agents)
        frame = Frame("strbuild", "StrBuild", rules.turns, rules.coverage_weight, history, task.original_prompt, task.previous_response)
        super().__init__(frame, n_agents)
        self._layout: Layout = lay_out("I")
        self._world: World = {}

    def _begin(self, row: TaskRow | None) -> None:
        if row is None:
            row = BUILT_IN_ROWS[int(self._rng.integers(len(BUILT_IN_ROWS)))]
        self._layout, self._world = row_layout(row, self._rules.blank_unknown), {}

    def _first_prompt(self, agent: int) -> str:
        return first_prompt(self._layout, self._rules, agent)

    def _judge(self, responses: Sequence[str]) -> Judgement:
        """Run every agent's commands, agent by agent, and score what stands."""
        layout, rules = self._layout, self._rules
        if rules.world == "reset":
            self._world = {}
        accepted = 0
        for response, palette, limit in zip(responses, rules.palettes, rules.limits, strict=True):
            commands = accepted_commands(response, setblock_parser(palette, layout.box), limit)
            run_commands(self._world, commands)
            accepted += len(commands)
        score = score_build(self._blocks(), layout, rules)
        metrics = {**score.metrics(), "accepted_commands": float(accepted)}
        details = {
            "blocks": [[*cell, block] for cell, block in sorted(self._world.items())],
            "target": [[x, y, 0] for x, y in sorted(layout.cells)],
        }
        return Judgement(score.reward, score.reward > rules.solved_above, metrics, details)

    def _feedback(self, agent: int) -> str:
        return feedback(self._layout, self._rules, agent, self._turn + 1, self._reward, self._blocks())

    def _blocks(self) -> dict[Cell2, str]:
        return {(x, y): block for (x, y, _), block in self._world.items()}
