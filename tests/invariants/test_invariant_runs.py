"""Every method's tiny run gives the numbers it gave before: what a refactoring must not change (see runs.py)."""

from __future__ import annotations

import os

import pytest
from invariants.runs import RUNS, UPDATE_COMMAND, differences, measure, read_pins
from transformers.utils import logging

from collm.algorithms import trees
from collm.training import credit


@pytest.fixture(autouse=True)
def one_core(monkeypatch):
    """Small models gain nothing from more threads, and a busy machine loses much."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    logging.disable_progress_bar()


@pytest.mark.parametrize("name", RUNS)
def test_a_run_gives_its_pinned_numbers(name, tmp_path):
    """Losses, gradient norms, returns, counts and values of three updates equal tests/invariants/pins.json."""
    update = UPDATE_COMMAND.format(names=name)
    pins = read_pins()
    assert name in pins, f"{name} is not pinned yet; pin it with\n  {update}"
    found = differences(name, pins[name], measure(name, tmp_path / "run"))
    if found:
        pytest.fail("\n  ".join([f"run {name} has changed; if that is meant, pin it anew with\n    {update}", *found]), pytrace=False)


def test_no_pin_without_its_run():
    """A run that is renamed or left out takes its pins with it."""
    assert sorted(read_pins()) == sorted(RUNS)


@pytest.mark.parametrize(("name", "number"), [("ma-reinforce", "gradient_norm/agent_0"), ("marloo", "gradient_norm/agent_1")])
def test_another_discount_in_the_returns_breaks_the_pins(name, number, tmp_path, monkeypatch):
    """The pins see an estimator that is off by a hundredth from the first update on."""
    monkeypatch.setattr(credit, "joint_returns", lambda episode, discount: trees.joint_returns(episode, discount - 0.01))
    found = differences(name, read_pins()[name], measure(name, tmp_path / "run"))
    assert any(line.startswith(f"{name}, update 1, {number}: pinned") for line in found)
    counts = [line for line in found if line.startswith(f"{name}, update 1, env_steps")]
    assert counts == [], "the first rollout came before the estimator"


def test_a_difference_names_run_update_and_number():
    """Counts are compared exactly, numbers within the tolerance, and nothing may appear or vanish unseen."""
    pinned = [{"env_steps": 4, "loss/critic": 0.5, "ratio/agent_0": 1.0}, {"loss/critic": 1e-17}]
    same = [{"env_steps": 4, "loss/critic": 0.5 * (1 + 9e-6), "ratio/agent_0": 1.0}, {"loss/critic": -1e-17}]
    assert differences("x", pinned, same) == []
    other = [{"env_steps": 5, "loss/critic": 0.5 * (1 + 2e-5), "entropy/agent_0": 1.0}]
    assert differences("x", pinned, other) == [
        "x: 2 updates pinned, 1 found",
        "x, update 1, env_steps: pinned 4, found 5",
        "x, update 1, loss/critic: pinned 0.5, found 0.50001",
        "x, update 1, ratio/agent_0: is gone",
        "x, update 1, entropy/agent_0: not pinned",
    ]
