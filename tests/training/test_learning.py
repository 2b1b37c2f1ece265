"""Both methods learn: a sign error anywhere between reward and weights would send these returns down."""

from __future__ import annotations

import json

import numpy as np
import pytest
from run_tools import agent, model_folder, toy_config

from collm.training.trainer import Trainer


@pytest.mark.slow
@pytest.mark.parametrize(("method", "tuning"), [("collm-cc", "full"), ("collm-dc", "full"), ("collm-cc", "lora")])
def test_the_return_rises_and_the_critic_follows(method, tuning, tmp_path):
    """Two turns that each pay 0.5 plus the share of lower-case letters: about 1.15 at random, 3 at best, 1 at worst."""
    section = {"tuning": tuning, "optimizer": {"learning_rate": 0.02}}
    # A wider base gives adapters, which leave the output layer alone, something to steer.
    spread = 0.15 if tuning == "full" else 0.3
    llama = model_folder(tmp_path / "llama", "llama", spread=spread)
    first = model_folder(tmp_path / "qwen3") if tuning == "full" else llama
    config = toy_config(
        [agent(first, **section), agent(llama, **section)],
        {**section, "optimizer": {"learning_rate": 0.01}},
        {"base": 0.5},
        seed=1,
        method=method,
        training={"updates": 20, "episodes_per_update": 16},
        evaluation={"every": 0, "sampled_episodes": 24},
    )
    assert Trainer(config, tmp_path / "run").run()
    before, after = (json.loads(line) for line in (tmp_path / "run" / "eval.jsonl").read_text().splitlines())
    assert before["return_mean"] < 1.4
    assert after["return_mean"] > before["return_mean"] + 0.8
    assert after["return_ci95"][0] > before["return_ci95"][1]
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert np.mean([row["return_mean"] for row in rows[-5:]]) > np.mean([row["return_mean"] for row in rows[:5]]) + 0.5
    for critic in [key for key in rows[0] if key.startswith("value_mean/")]:
        # The mean of V over the two turns of an episode lies between the last reward and the return.
        assert rows[0][critic] == 0.0
        assert 0.7 < np.mean([row[critic] for row in rows[-5:]]) < 3.0
    assert np.mean([row["entropy/agent_0"] for row in rows[-3:]]) < rows[0]["entropy/agent_0"]
