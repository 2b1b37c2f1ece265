"""The benchmarks of overhead and scaling: their arithmetic, and the counts that the real engine must meet exactly."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from bench_tools import SMALL, Spent, alternate, random_model, throughput_ratio
from overhead import Work, bare_update, generation_calls, host_of, targets_met, update_calls
from run_share import breakdown, covered
from scaling import Bench, Setting, carried_tokens, checks, inference_calls, joint_actions, read_tokens, reread_tokens

# -- pure parts ------------------------------------------------------------------------------------------------------------


def test_the_ratio_is_the_median_over_neighbouring_runs():
    bare = [Spent(1.0, 2.0), Spent(2.0, 4.0), Spent(9.0, 9.0)]
    ours = [Spent(2.0, 2.0), Spent(2.5, 8.0), Spent(10.0, 9.0)]
    assert throughput_ratio(ours, bare) == pytest.approx(0.8)
    assert throughput_ratio(ours, bare, "cpu") == pytest.approx(1.0)


def test_alternating_runs_each_once_per_round_and_warms_up():
    order: list[str] = []
    spent = alternate({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2)
    assert "".join(order) == "ab" + "ab" + "ba"
    assert {name: len(runs) for name, runs in spent.items()} == {"a": 2, "b": 2}


def test_targets_are_held_to_the_worst():
    models = [{"generation": [{"ratio": 0.9}], "update": [{"ratio": 0.9}]}, {"generation": [{"ratio": 0.84}], "update": [{"ratio": 0.85}]}]
    assert targets_met(models, None) == {"generation": False, "update": True}
    assert targets_met(models, {"share_outside_models": 0.05})["run"] is False


def test_time_with_models_counts_once_where_they_work_side_by_side():
    assert covered([(0, 2), (1, 3), (5, 6)]) == 4
    assert covered([(0, 2), (1, 3), (5, 6)], (1, 5.5)) == 2.5
    found = breakdown({"model": [(0, 4), (2, 8)], "logs": [(8, 9)], "metrics": [(12, 13)]}, (0, 10))
    assert found["seconds"] == {"model": 8, "logs": 1, "other": 1, "metrics": 0}
    assert found["share_outside_models"] == 0.2


@pytest.mark.parametrize(("n", "k", "horizon", "calls"), [(1, 1, 4, 4), (2, 2, 2, 12), (2, 3, 3, 78), (8, 2, 1, 16)])
def test_prop_4_3(n, k, horizon, calls):
    assert inference_calls(n, k, horizon) == calls
    assert joint_actions(n, k, horizon) * n == calls


# -- against the real engine -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "k", "horizon"), [(2, 2, 3), (3, 3, 2), (2, 1, 4)])
def test_rollouts_cost_what_is_predicted(tmp_path, n, k, horizon):
    setting = Setting(agents=n, samples=k, turns=horizon, episodes=2, response=4)
    cost = Bench(setting, tmp_path).roll_out()
    assert cost["inference_calls"] == 2 * inference_calls(n, k, horizon)
    assert cost["joint_actions"] == 2 * joint_actions(n, k, horizon)
    assert cost["generated_tokens"] == 4 * cost["inference_calls"]


def test_crossed_joint_actions(tmp_path):
    cost = Bench(Setting(samples=2, turns=2, episodes=1, response=3, joint_mode="crossed"), tmp_path).roll_out()
    assert cost["joint_actions"] == joint_actions(2, 2, 2, "crossed") == 4 + 16


def read_in_rollout(setting: Setting, folder: Path) -> tuple[int, Bench]:
    bench = Bench(setting, folder)
    with read_tokens(list(bench.team.hosts.values())) as tokens:
        bench.roll_out()
        return tokens(), bench


def test_tokens_read_are_linear_in_the_turns(tmp_path):
    """With `history: full` every token is read once, whatever H: the models see no turn's history a second time."""
    read = {}
    for turns in (1, 2, 3, 5, 6):
        read[turns], bench = read_in_rollout(Setting(turns=turns, episodes=3, response=5), tmp_path)
        assert read[turns] == carried_tokens(bench.episodes)
        assert turns == 1 or read[turns] < reread_tokens(bench.episodes)
    assert read[3] - read[2] == read[2] - read[1] == read[6] - read[5]


def test_tokens_read_without_caches_are_the_quadratic_sum(tmp_path):
    count, bench = read_in_rollout(Setting(turns=4, episodes=2, response=5, carries_caches=False), tmp_path)
    assert count == reread_tokens(bench.episodes)


def test_adapters_share_a_base_and_an_update_follows(tmp_path):
    bench = Bench(Setting(agents=3, turns=2, episodes=2, response=4, adapters=True), tmp_path)
    assert len(bench.team.hosts) == 1
    row = bench.measure(1)
    assert row["inference_calls"] == 2 * 3 * 2
    assert bench.learner.policy_steps == 2


def test_checks_see_a_wrong_count():
    row = {"inference_calls": 4, "predicted_calls": 4, "joint_actions": 2, "predicted_joint_actions": 2}
    history = {"carried": {"read_tokens": 5}, "reread": {"read_tokens": 9}, "predicted_tokens": {"carried": 5, "reread": 9}}
    assert all(checks({"trees": {"agents": [row]}, "history": [history]}).values())
    wrong = checks({"trees": {"agents": [{**row, "inference_calls": 5}]}, "history": [history]})
    assert [name for name, holds in wrong.items() if not holds] == ["calls_as_prop_4_3"]


def test_both_sides_of_an_update_make_the_same_gradient():
    """The bare side is only a fair yardstick if it computes what collm computes."""
    work = Work(rows=4, prompt=7, response=5)
    host = host_of(random_model(SMALL), work)
    model, kept = host.loaded.model, []
    calls = update_calls(host, work)

    def keep() -> None:
        kept.append([p.grad.clone() for p in model.parameters() if p.grad is not None])

    host.discard_gradients = keep  # type: ignore[method-assign]
    calls["collm"]()
    model.zero_grad(set_to_none=True)
    model.zero_grad = lambda set_to_none=True: keep()  # type: ignore[method-assign]
    calls["bare"]()
    for p in model.parameters():
        p.grad = None
    calls["bare_all_logits"]()
    ours, bare, naive = kept
    for a, b, c in zip(ours, bare, naive, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(b, c, rtol=1e-3, atol=1e-5)


def test_both_sides_of_generation_sample_the_same_number_of_tokens():
    """Each side asserts it itself."""
    work = Work(rows=3, prompt=6, response=4)
    for call in generation_calls(host_of(random_model(SMALL), work), work).values():
        call()


def test_bare_update_leaves_no_gradient():
    model = random_model(SMALL).model
    bare_update(model, torch.randint(0, 200, (2, 9)), 4, torch.ones(2))
    assert all(p.grad is None for p in model.parameters())
