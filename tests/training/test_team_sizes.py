"""Every method with teams of one to five: two updates run, are counted right, and move every weight."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from run_tools import model_folder

from collm.config.load import resolve
from collm.config.schema import Config
from collm.training.trainer import Trainer

pytestmark = pytest.mark.slow

UPDATES = 2
MODELS = ["qwen3", "llama", "gpt2", "qwen3", "llama"]
LETTERS = "".join(chr(c) for c in range(40, 127) if chr(c) not in "{}[],:#'\"&*!|>%@`?")


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> list[str]:
    root = tmp_path_factory.mktemp("models")
    return [model_folder(root / str(i), kind, i) for i, kind in enumerate(MODELS)]


def configured(method: str, n: int, folders: list[str], turns: int, **changes: Any) -> Config:
    """As a user would ask for it: the preset of the user's own environment, the method by name, and overrides."""
    settings: dict[str, Any] = {
        "task.env": "toy_envs:LettersEnv",
        "task.env_args.n": n,
        "task.env_args.turns": turns,
        "task.env_args.letters": f"'{LETTERS}'",
        "training.updates": UPDATES,
        "training.episodes_per_update": 2,
        "evaluation.every": 0,
        "evaluation.sampled_episodes": 1,
        "evaluation.bootstrap": 100,
        "logging.tensorboard": "false",
        "critic.optimizer.learning_rate": 0.01,
    }
    single = method in ("grpo", "rloo", "remax", "ac")
    if n == 1 and not single:
        settings["agents.1"] = "null"
    for i in range(n):
        settings |= {f"agents.{i}.model": folders[i], f"agents.{i}.max_new_tokens": 4, f"agents.{i}.optimizer.learning_rate": 0.01}
    config = resolve("custom", method=method, overrides=[f"{k}={v}" for k, v in (settings | changes).items()])
    assert len(config.agents) == n
    return config


def run(config: Config, folder: Path) -> tuple[list[dict[str, Any]], Trainer]:
    trainer = Trainer(config, folder)
    hosts = trainer.team.hosts
    before = {(h, m): [p.detach().clone() for p in member.parameters] for h, host in hosts.items() for m, member in host.members.items()}
    assert trainer.run()
    for (h, m), weights in before.items():
        for old, new in zip(weights, hosts[h].members[m].parameters, strict=True):
            assert not torch.equal(old, new), f"a weight of {m} of shape {tuple(old.shape)} has not moved"
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["policy_steps"] for row in rows] == [1, 2]
    for row in rows:
        for name in trainer.team.policies:
            assert row[f"ratio/{name}"] == pytest.approx(1.0, abs=1e-6)
            assert row[f"max_ratio/{name}"] == 1.0
            assert row[f"gradient_norm/{name}"] > 0
    return rows, trainer


def check_counts(rows: list[dict[str, Any]], env_steps: int, calls: int) -> None:
    """Per update; every update's rollouts have the same shape, for no episode ends early."""
    assert [row["env_steps"] for row in rows] == [env_steps, 2 * env_steps]
    assert [row["inference_calls"] for row in rows] == [calls, 2 * calls]
    assert [row["episodes"] for row in rows] == [2, 4]


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize(("method", "changes"), [("collm-cc", {}), ("collm-dc", {}), ("collm-dc", {"critic.shared_backbone": "true"})])
def test_actor_critic_teams(method, changes, n, folders, tmp_path):
    rows, trainer = run(configured(method, n, folders, turns=2, **changes), tmp_path / "run")
    check_counts(rows, env_steps=2 * 2, calls=2 * 2 * n)
    assert len(trainer.team.critics) == (1 if method == "collm-cc" else n)
    assert len(trainer.team.hosts) == n + (0 if changes else len(trainer.team.critics))


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("method", ["ma-reinforce", "magrpo", "marloo"])
def test_monte_carlo_teams(method, n, folders, tmp_path):
    rows, trainer = run(configured(method, n, folders, turns=2), tmp_path / "run")
    # Two trees with K = 2 and two turns: 2 + 4 joint actions each, and n K (K^H - 1) / (K - 1) calls.
    check_counts(rows, env_steps=2 * 6, calls=2 * n * 2 * 3)
    assert trainer.team.critics == {}


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_maremax_teams(n, folders, tmp_path):
    rows, _ = run(configured("maremax", n, folders, turns=2), tmp_path / "run")
    # One sample a node: 2 sampled joint actions, and a greedy rollout from each of their nodes, of 2 and of 1.
    check_counts(rows, env_steps=2 * (2 + 3), calls=2 * n * (2 + 3))


@pytest.mark.parametrize(("n", "turns"), [(2, 2), (3, 2), (5, 1)])
def test_crossed_teams(n, turns, folders, tmp_path):
    rows, _ = run(configured("magrpo", n, folders, turns, **{"monte_carlo.joint_mode": "crossed"}), tmp_path / "run")
    joint = 2**n
    nodes = sum(joint**t for t in range(turns))
    check_counts(rows, env_steps=2 * joint * nodes, calls=2 * n * 2 * nodes)


@pytest.mark.parametrize(
    ("preset", "method", "steps", "calls"),
    [("grpo", "magrpo", 6, 6), ("rloo", "marloo", 6, 6), ("remax", "maremax", 5, 5), ("ac", "collm-cc", 2, 2)],
)
def test_presets_of_one_agent(preset, method, steps, calls, folders, tmp_path):
    rows, trainer = run(configured(preset, 1, folders, turns=2), tmp_path / "run")
    check_counts(rows, env_steps=2 * steps, calls=2 * calls)
    assert trainer.config.method == method
    assert list(trainer.team.policies) == ["agent_0"]
