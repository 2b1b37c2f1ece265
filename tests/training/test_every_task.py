"""Every built-in task trains with every method from its preset: two updates, every figure finite, every member stepped."""

from __future__ import annotations

import math

import pytest
import torch
from run_tools import log_rows

from collm.config.load import resolve
from collm.config.tree import TASKS
from collm.training.trainer import Trainer

pytestmark = pytest.mark.slow

METHODS = ("collm-cc", "collm-dc", "magrpo", "grpo", "ac")
# Every task with a critic and with trees, every method with short responses and with long games; the rest of the product is exhaustive.
ALWAYS = {("tldr", "collm-dc"), ("housebuild", "collm-dc"), ("arxiv", "grpo"), ("strbuild", "grpo"), ("mbpp", "ac"), ("strbuild", "ac")}


def cases() -> list[object]:
    pairs = [(task, method) for task in TASKS if task != "custom" for method in METHODS]
    seldom = pytest.mark.exhaustive
    return [pytest.param(*p, marks=() if p in ALWAYS or p[1] in ("collm-cc", "magrpo") else seldom) for p in pairs]


SHORT = [
    "training.updates=2",
    "evaluation.every=0",
    "evaluation.sampled_episodes=1",
    "evaluation.bootstrap=100",
    "logging.tensorboard=false",
    "agents.0.max_new_tokens=24",
]


@pytest.mark.parametrize(("task", "method"), cases())
def test_a_task_trains(task, method, tmp_path):
    tree = method in ("magrpo", "grpo")
    team = method in ("grpo", "ac") or ["agents.1.max_new_tokens=24"]
    overrides = [*SHORT, *(team if isinstance(team, list) else []), f"training.episodes_per_update={1 if tree else 2}"]
    if tree:
        overrides.append("monte_carlo.samples=2")
        if "turns" in TASKS[task].model_fields:
            overrides.append("task.turns=2")
    trainer = Trainer(resolve(task, method=method, overrides=[*overrides, "training.checkpoint_every=2"]), tmp_path / "run")
    hosts = trainer.team.hosts.values()
    before = {m.name: [p.detach().clone() for p in m.parameters] for host in hosts for m in host.members.values()}
    assert trainer.run()
    rows = log_rows(tmp_path / "run", "metrics.jsonl")
    # Responses are cut short here, and some tasks pay nothing for those: then V = 0 is right from the start.
    paid = any(row["return_mean"] for row in rows)
    for host in hosts:
        for m in host.members.values():
            assert m.steps == 2
            if paid and not tree:  # a group whose samples earn the same has no gradient
                assert any(not torch.equal(was, now) for was, now in zip(before[m.name], m.parameters, strict=True)), m.name
    assert [row["update"] for row in rows] == [1, 2]
    assert all(math.isfinite(value) for row in rows for value in row.values() if isinstance(value, float))
    evaluations = log_rows(tmp_path / "run", "eval.jsonl")
    assert [row["update"] for row in evaluations] == [0, 2]
    assert (tmp_path / "run" / "final" / "agent_0" / "model.safetensors").is_file()
