"""Every built-in task under every protocol, with the built-in models."""

from __future__ import annotations

import math

import pytest

import collm
from collm.envs.tasks import BUILT_IN
from collm.evaluation.protocols import PROTOCOLS
from collm.reports.summary import PERCENTAGES

TASKS = [section.model_fields["name"].default for section in BUILT_IN]
COLUMNS = {"strbuild": {"adjacency", "iou"}, "housebuild": {"hp", "iou", "match"}, "tldr": {"score"}, "arxiv": {"score"}}
"""What of Table 1 a task's metrics fill; the coding tasks have the pass rate."""


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("task", TASKS)
def test_every_task_evaluates_under_every_protocol(task, protocol, tmp_path):
    agents = range(1 if protocol == "raw" else 2)
    few = [f"agents.{i}.max_new_tokens=12" for i in agents]
    few += ["evaluation.bootstrap=100", "evaluation.timed_turns=1", "task.test_rows=0:2"]
    row = collm.evaluate(task, protocol, episodes=2, overrides=few, run_dir=tmp_path / "e")
    assert (row["episodes"], row["rows"], row["greedy"]["episodes"]) == (2, 2, 2)
    assert set(row["metrics"]) & set(PERCENTAGES) == COLUMNS.get(task, {"pass_rate"})
    assert all(0 <= row["metrics"][name] <= 1 for name in set(row["metrics"]) & set(PERCENTAGES))
    assert ("pass_at_k" in row) == (task in ("coophe", "humaneval", "mbpp"))
    turns = 1 if protocol == "raw" or task in ("tldr", "arxiv") else 2 if "pass_at_k" in row else 4
    assert row["turns_mean"] == turns or row["terminated_share"] > 0
    assert 0 < row["cost_tokens"] <= 12 * (2 if protocol == "discussion" else 1)
    assert len(row["cost_tokens_by_agent"]) == len(row["models"]) == len(agents)
    assert math.isfinite(row["return_mean"])
    assert row["seconds_per_joint_turn"] > 0
