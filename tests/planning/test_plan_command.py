"""`collm plan` as a person types it, and advice that holds what it says."""

from __future__ import annotations

import json

import pytest
from run_tools import agent, model_folder, toy_config

from collm.cli.main import app_main
from collm.config.schema import Config
from collm.planning.advice import advise, overridden
from collm.planning.predict import predict
from collm.planning.records import Plan
from collm.planning.table import size
from collm.planning.workload import Expected


@pytest.fixture
def run(capsys):
    def call(*args: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            app_main(["plan", *map(str, args)])
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return call


@pytest.fixture
def small(tmp_path) -> tuple[str, list[str]]:
    """A task and overrides that put a small model everywhere."""
    model = model_folder(tmp_path / "model")
    names = [f"{key}.model={model}" for key in ("agents.0", "agents.1", "critic")]
    return "strbuild", [*names, "context_window=256", "critic.context_window=512", "training.micro_batch_tokens=1024"]


def test_table_and_json_say_the_same(run, small):
    task, overrides = small
    code, out, _ = run(task, *overrides, "--device-memory", "cpu=64GB")
    assert code == 0
    assert "agent_0: model" in out
    assert "fits: peak" in out
    assert "of 64.0 GB" in out
    assert max(map(len, out.splitlines())) <= 100
    code, out, _ = run(task, *overrides, "--device-memory", "cpu=64GB", "--json")
    data = json.loads(out)
    (device,) = data["devices"]
    assert code == 0
    assert data["fits"] is True
    assert device["capacity"] == 64 * 10**9
    assert device["peak"] == max(device["phases"].values())
    assert len(device["hosts"]) == 3


def test_a_gpu_that_is_not_here_can_be_planned_for(run, small):
    task, overrides = small
    data = json.loads(run(task, *overrides, "--device-memory", "cuda=24GiB", "--json")[1])
    assert [d["device"] for d in data["devices"]] == ["cuda:0"]
    assert data["devices"][0]["capacity"] == 24 * 2**30


def test_mistakes_are_told(run, small):
    task, overrides = small
    assert run(task, "--device-memory", "cuda=lots")[0] == 2
    code, _, err = run(task, *overrides, "--turns", "9")
    assert code == 2
    assert "option --turns" in err
    code, _, err = run("nowhere.yaml")
    assert code == 2
    assert "nowhere.yaml" in err


def test_advice_makes_it_fit_when_applied(tmp_path):
    model = model_folder(tmp_path / "model")
    config = toy_config(
        [agent(model), agent(model)],
        {"model": model, "context_window": 512},
        method="collm-cc",
        context_window=256,
        training={"updates": 1, "episodes_per_update": 8, "micro_batch_tokens": 2048},
    )
    whole = predict(config, lambda _: None, "cpu", Expected(256, 2)).devices[0]
    limit = whole.process + (whole.peak - whole.process) // 2

    def planner(changed: Config) -> Plan:
        return predict(changed, lambda _: limit, "cpu", Expected(256, 2))

    plan = planner(config)
    assert plan.fits is False
    assert plan.excess == whole.peak - limit
    advice = advise(config, plan, planner)
    assert advice.together
    assert planner(overridden(config, advice.together)).fits is True
    assert all(s.saving > 0 for s in advice.single)


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (999, "999 B"), (48_000, "48 kB"), (1_254_000_000, "1.25 GB"), (80e9, "80.0 GB")])
def test_sizes(count, text):
    assert size(count) == text
