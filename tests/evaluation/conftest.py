"""Small models and one thread, for evaluations of seconds."""

from __future__ import annotations

import os
from typing import Any

import pytest
from run_tools import agent, model_folder, toy_config
from transformers.utils import logging

from collm.config.schema import Config


@pytest.fixture(autouse=True)
def one_core(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    logging.disable_progress_bar()


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> list[str]:
    """Three models with tokenizers of their own."""
    root = tmp_path_factory.mktemp("models")
    kinds: list[tuple[str, dict[str, Any]]] = [("qwen3", {}), ("llama", {"chat_template": None}), ("gpt2", {"pad_is_eos": True})]
    return [model_folder(root / str(i), kind, i, **options) for i, (kind, options) in enumerate(kinds)]


@pytest.fixture
def letters(folders):
    """A configuration on `toy_envs:LettersEnv` with n agents."""

    def made(n: int = 2, env_args: dict[str, Any] | None = None, **sections: Any) -> Config:
        evaluation = {"sampled_episodes": 3, "bootstrap": 100, "timed_turns": 0, **sections.pop("evaluation", {})}
        return toy_config([agent(folders[i % 3]) for i in range(n)], {}, env_args, evaluation=evaluation, **sections)

    return made
