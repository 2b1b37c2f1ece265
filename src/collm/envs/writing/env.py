"""TLDR and arXiv as PettingZoo environments (contract: `collm.envs.base`)."""

from __future__ import annotations

from collections.abc import Sequence

from collm.config.contradiction import Contradiction
from collm.config.tasks import ArxivTask, TldrTask
from collm.envs.text_env import Frame, History, Judgement, TextTaskEnv
from collm.envs.writing.prompts import default_roles, prompt
from collm.envs.writing.rows import TaskName, built_in_rows, row_source
from collm.envs.writing.rules import resolve_rules
from collm.envs.writing.scoring import score_texts
from collm.envs.writing.split import split_paragraphs
from collm.errors import ConfigError
from collm.types import TaskRow

TITLES: dict[TaskName, str] = {"tldr": "TLDR", "arxiv": "arXiv"}


class WritingEnv(TextTaskEnv):
    """Two agents write a text each on the same source, or one agent writes both; one turn.

    Without a row in `reset(options={"task": row})` one of the built-in sources is drawn by the seed.
    """

    def __init__(self, task: TldrTask | ArxivTask, n_agents: int, history: History = "full") -> None:
        if n_agents < 1:
            raise ConfigError(f"{TITLES[task.name]} needs one or two agents, got {n_agents}; list agents in the configuration")
        try:
            task.check_agents(n_agents)
        except Contradiction as error:
            raise ConfigError(str(error)) from error
        self._rules = resolve_rules(task)
        self._task: TaskName = task.name
        self._roles = default_roles(task.name, n_agents) if task.roles is None else tuple(task.roles)
        super().__init__(Frame(task.name, TITLES[task.name], 1, self._rules.max_reward, history), n_agents)
        self._source = ""

    def _begin(self, row: TaskRow | None) -> None:
        if row is None:
            rows = built_in_rows(self._task)
            row = rows[int(self._rng.integers(len(rows)))]
        self._source = row_source(self._task, row)

    def _first_prompt(self, agent: int) -> str:
        return prompt(self._task, self._roles[agent], self._source)

    def _judge(self, responses: Sequence[str]) -> Judgement:
        """Score the two texts; no text ends the task as solved, for there is only one turn."""
        first, second = responses if len(responses) == 2 else split_paragraphs(responses[0])
        score = score_texts(first, second, self._rules)
        details = {"stopped_at": score.stopped_at, "transition_categories": list(score.measures.categories)}
        return Judgement(score.reward, False, score.metrics(), details)

    def _feedback(self, agent: int) -> str:
        raise AssertionError("a writing task has one turn, after which nobody is asked again")
