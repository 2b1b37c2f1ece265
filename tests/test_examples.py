"""What the README shows is what is there, and it runs."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from pettingzoo.test import parallel_api_test

import collm
from collm.config.load import resolve_task
from collm.envs.registry import make_env

ROOT = Path(__file__).parent.parent


def test_the_readme_shows_the_example_environment_as_it_is():
    assert (ROOT / "examples" / "agree.py").read_text().strip() in (ROOT / "README.md").read_text()


def test_the_readme_s_python_parses():
    blocks = (ROOT / "README.md").read_text().split("```python\n")[1:] + (ROOT / "docs" / "python.md").read_text().split("```python\n")[1:]
    assert len(blocks) >= 4
    for block in blocks:
        ast.parse(block.split("```")[0])


def test_files_that_the_docs_link_to_exist():
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for link in page.read_text().split("](")[1:]:
            target = link.split(")")[0].partition("#")[0]
            if target and not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_example_environment_keeps_the_contract(monkeypatch):
    monkeypatch.chdir(ROOT)
    env = make_env(resolve_task("examples.agree:AgreeEnv"), 2, "full")
    parallel_api_test(env, num_cycles=5)  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_example_environment_trains(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    few = ["training.updates=2", "training.episodes_per_update=4", "evaluation.sampled_episodes=4", "context_window=512"]
    few += ["agents.0.max_new_tokens=24", "agents.1.max_new_tokens=24"]
    run = collm.train("examples.agree:AgreeEnv", overrides=few, run_dir=tmp_path / "run")
    assert run.finished
    assert [row["update"] for row in run.metrics] == [1, 2]
    assert all(row["env/shared_words"] >= 0 for row in run.metrics)
    episode = json.loads((tmp_path / "run" / "episodes.jsonl").read_text().splitlines()[0])
    assert [turn["truncated"] for turn in episode["turns"]] == [False, True]
