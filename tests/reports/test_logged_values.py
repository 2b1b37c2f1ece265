"""What an update made of an episode stands in episodes.jsonl: critics' values and advantages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_tools import agent, log_rows, model_folder, toy_config

from collm.training.trainer import Trainer


@pytest.fixture
def run(tmp_path):
    """A function that makes a run and gives its episodes and metrics."""

    def play(method: str, **sections: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        member = agent(model_folder(tmp_path / "qwen3"), optimizer={"learning_rate": 1e-3})
        config = toy_config(
            [member, member], sections.pop("critic", {}), {"turns": 3}, method=method, **{"training": {"updates": 2}, **sections}
        )
        Trainer(config, tmp_path / method).run()
        return _rows(tmp_path / method), log_rows(tmp_path / method, "metrics.jsonl")

    return play


def _rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "episodes.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(("method", "critics"), [("collm-cc", ["critic"]), ("collm-dc", ["critic_agent_0", "critic_agent_1"])])
def test_values_and_td_errors_are_those_that_trained(method, critics, run):
    """Their means are the metrics', and every advantage is r + gamma V' - V of the logged values."""
    episodes, metrics = run(method)
    for update, row in enumerate(metrics):
        turns = [e["turns"] for e in episodes if e["update"] == update]
        assert len(turns) == 3
        for i, critic in enumerate(critics):
            V = np.array([[t["values"][critic] for t in episode] for episode in turns])
            r = np.array([[t["reward"] for t in episode] for episode in turns])
            following = np.hstack([V[:, 1:], np.zeros((len(turns), 1))])
            A = np.array([[t["advantages"][f"agent_{i}"] for t in episode] for episode in turns])
            np.testing.assert_allclose(A, r + 0.9 * following - V, atol=1e-12)
            assert row[f"value_mean/{critic}"] == pytest.approx(V.mean(), abs=1e-12)
            assert row[f"advantage_abs/agent_{i}"] == pytest.approx(np.abs(A).mean(), abs=1e-12)
        if update:
            assert len({t["values"][critics[0]] for episode in turns for t in episode}) == 9, "a critic that has learned tells turns apart"


def test_several_epochs_keep_what_the_first_one_read(run):
    """Later epochs read moved critics; the log has the values that the update began with: 0 of an untrained head."""
    episodes, _ = run("collm-cc", algorithm={"epochs": 3}, critic={"optimizer": {"learning_rate": 0.1}})
    assert {t["values"]["critic"] for e in episodes if e["update"] == 0 for t in e["turns"]} == {0.0}


def test_a_tree_s_responses_have_their_advantages_and_no_values(run):
    """K = 2, so that MAGRPO's advantages of a node's two responses are opposite: the return less the mean of both."""
    episodes, _ = run("magrpo", training={"updates": 1, "episodes_per_update": 2})
    for turns in (e["turns"] for e in episodes):
        assert not any("values" in t for t in turns)
        last = [t for t in turns if t["turn"] == 2]
        for one, other in zip(last[::2], last[1::2], strict=True):
            assert one["parent"] == other["parent"]
            assert one["advantages"]["agent_0"] == pytest.approx((one["reward"] - other["reward"]) / 2, abs=1e-12)
            assert other["advantages"]["agent_1"] == pytest.approx((other["reward"] - one["reward"]) / 2, abs=1e-12)
