"""Rewards of recorded responses, one row at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from collm.config.tasks import TaskSection
from collm.envs.check import joint_flag, shared_reward, step_metrics
from collm.envs.data import all_rows
from collm.envs.registry import make_env
from collm.envs.tasks import built_in
from collm.errors import DataError


class Scorer:
    """Scores single turns of a task, each from the beginning of an episode."""

    def __init__(self, task: TaskSection) -> None:
        self._task = task
        self._known = built_in(task)
        self._example = {} if self._known is None else dict(self._known.example)

    def score(self, row: object) -> dict[str, Any]:
        """Score a row like {"task": {"string": "ICML"}, "responses": ["...", "..."]}, one response per agent.

        Returns {"reward": float, "metrics": {name: float}, "terminated": bool}. Raises DataError naming the field that is
        wrong.
        """
        reference, responses = self._parts(row)
        task_row = reference if self._known is None else self._known.find_row(reference, lambda: self._rows)
        env = make_env(self._task, len(responses), "full")
        env.reset(seed=0, options={"task": task_row})
        _, rewards, terminations, _, infos = env.step(dict(zip(env.agents, responses, strict=True)))
        return {
            "reward": shared_reward(rewards),
            "metrics": step_metrics(infos),
            "terminated": joint_flag("terminations", terminations),
        }

    @cached_property
    def _rows(self) -> list[Mapping[str, Any]]:
        return all_rows(self._task)

    def _parts(self, row: object) -> tuple[Mapping[str, Any], Sequence[str]]:
        task = json.dumps(self._example)
        example = f'{{"task": {task}, "responses": ["...", "..."]}}'
        if not isinstance(row, Mapping):
            raise DataError(f"expected an object like {example}, got {type(row).__name__}")
        for field in ("task", "responses"):
            if field not in row:
                raise DataError(f"field {field!r} is missing (fields: {', '.join(map(str, row)) or 'none'}); a row is like {example}")
        if not isinstance(row["task"], Mapping):
            raise DataError(f"task: expected an object like {task}, got {type(row['task']).__name__}")
        responses = row["responses"]
        if not isinstance(responses, list) or not responses:
            raise DataError(f"responses: expected a list of texts, one per agent, got {json.dumps(responses, default=str)[:60]}")
        for i, response in enumerate(responses):
            if not isinstance(response, str):
                raise DataError(f"responses.{i}: expected text, got {type(response).__name__}")
        return row["task"], responses
