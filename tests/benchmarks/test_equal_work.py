"""The comparison with comlrl: its texts, its checkpoint, its clock and its arithmetic. comlrl itself is not needed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from equal_work import checkpoint, compare, fill_docs, floor, probe, schedules, task  # noqa: E402


@pytest.mark.parametrize("vocabulary", [320, 151_936])
def test_every_id_is_one_character_and_comes_back(vocabulary: int) -> None:
    tokenizer = checkpoint.make_tokenizer(vocabulary)
    assert len(tokenizer) == vocabulary
    ids = torch.randint(checkpoint.NEVER, vocabulary, (2000,), generator=torch.Generator().manual_seed(0)).tolist()
    text = tokenizer.decode(ids, skip_special_tokens=True)
    assert len(text) == len(ids)
    assert text.strip() == text
    assert tokenizer(text)["input_ids"] == ids


def test_no_response_has_white_space_at_its_ends() -> None:
    assert not any(c.isspace() for c in checkpoint.characters(151_936)[checkpoint.NEVER :])
    with pytest.raises(ValueError, match="ids"):
        checkpoint.characters(200_000)


@pytest.mark.parametrize("agent", [0, 1])
@pytest.mark.parametrize("said", ["", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "\U000f1234"])
def test_texts_have_fixed_lengths_known_to_the_tokenizer(agent: int, said: str) -> None:
    tokenizer = checkpoint.make_tokenizer(320)
    target = task.word(7)
    responses = [[said.ljust(task.RESPONSE_TOKENS, "x")] * 3, ["y" * task.RESPONSE_TOKENS] * 3]
    for turn in range(task.TURNS):
        text = task.history(target, agent, [r[:turn] for r in responses])
        assert len(text) == task.history_tokens(turn)
        assert not text[-1].isspace()
    ids = tokenizer(task.history(target, agent, [["y" * 64] * 3] * 2))["input_ids"]
    assert len(ids) == task.history_tokens(3)
    assert checkpoint.PAD not in ids, "a character that the small vocabulary lacks"


def test_histories_continue_one_another_and_hold_the_feedback() -> None:
    responses = [["a" * 64, "b" * 64], ["A" * 64, "c" * 64]]
    before, after = (task.history("ABCD", 0, [r[:n] for r in responses]) for n in (1, 2))
    assert after.startswith(before + "b" * 64 + "\nTurn 3 of 4.")
    assert "missing: -BCD" in before


def test_reward_counts_letters_and_difference() -> None:
    assert task.reward("AB", ["ABab", "ABab"]) == 0.5
    assert task.reward("AB", ["Aa", "Bb"]) == 1.0
    assert task.reward("AB", ["x", "x"]) == 0.0


def test_responses_are_as_long_as_they_may_be() -> None:
    model, tokenizer = checkpoint.make_model(320), checkpoint.make_tokenizer(320)
    prompt = torch.tensor([tokenizer(task.first_prompt("ABCD", 0))["input_ids"]] * 8)
    torch.manual_seed(1)
    out = model.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=16, do_sample=True, top_k=0, eos_token_id=checkpoint.EOS
    )
    assert out.shape == (8, prompt.shape[1] + 16)
    assert bool((out[:, prompt.shape[1] :] >= checkpoint.NEVER).all())
    assert len(out[:, prompt.shape[1] :].unique()) > 20, "the rest of the vocabulary is sampled"


def test_clock_tells_rollout_from_update(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 6.0, 10.0, 13.0, 20.0])
    monkeypatch.setattr(probe.time, "perf_counter", lambda: next(times))
    monkeypatch.setattr(probe.time, "process_time", lambda: 0.0)
    clock = probe.Clock()
    clock.step()  # before anything began: counts nowhere
    for optimizer_steps in (1, 3):
        clock.begin()
        clock.answered(200, 50)
        clock.step()
        for _ in range(optimizer_steps):
            clock.optimizer_stepped(None, (), {})
    clock.begin()
    report = clock.report()
    assert report["env_steps_per_s"] == 2 / 20
    assert report["update_s_per_env_step"] == (4 + 7) / 2
    assert report["rollout_s_per_env_step"] == (6 + 3) / 2
    assert report["tokens_per_s"] == 100 / 9
    assert report["optimizer_steps_per_env_step"] == 2
    assert report["context_tokens_per_env_step"] == 200
    warm = clock.report(warm_up=1)
    assert (warm["env_steps"], warm["env_steps_per_s"]) == (1, 1 / 10)


def _report(speed: float, **other: float) -> dict[str, float]:
    return {
        "env_steps_per_s": speed,
        "tokens_per_s": 10 * speed,
        "rollout_s_per_env_step": 0.5 / speed,
        "update_s_per_env_step": 0.5 / speed,
        "cpu_s_per_env_step": 1 / speed,
        "peak_mb": 100.0,
        "context_tokens_per_env_step": 952.0,
        "response_tokens_per_env_step": 128.0,
        **other,
    }


def test_ratios_are_of_medians_and_say_how_much_better() -> None:
    bare = {"rollout_s_per_env_step": 0.1, "update_s_per_env_step": 0.125}
    found = compare.compare(
        {
            "collm": [_report(2), _report(1), _report(50)],
            "comlrl": [_report(0.5, peak_mb=300), _report(0.25, peak_mb=300)] * 2,
            "floor": [bare],
        }
    )
    assert found["ratios"]["env_steps_per_s"] == pytest.approx(2 / 0.375)
    assert found["ratios"]["peak_mb"] == 3
    assert found["ratios"]["update_s_per_env_step"] == pytest.approx((1 + 2) / 2 / 0.25)
    assert found["to_floor"] == pytest.approx({"rollout_s_per_env_step": 2.5, "update_s_per_env_step": 2.0})
    rows = compare.table({"magrpo": found})
    assert len({row.count("|") for row in rows}) == 1


def test_tables_go_between_the_marks_again_and_again() -> None:
    found = compare.compare({side: [_report(2)] for side in ("collm", "comlrl", "floor")})
    machine = {"cpu": "some", "threads": 2, "load_average_before": 0.1}
    result = {
        "vocab": 320,
        "schedule": "theirs",
        "equal_steps": False,
        "full_buffer": False,
        "repeats": 3,
        "date": "2026-01-01",
        "machine": machine,
    }
    result |= {"methods": {"magrpo": found}, "versions": {"comlrl side": {"comlrl": "1.4.3"}}}
    text = f"head\n{fill_docs.BEGIN}\nold\n{fill_docs.END}\ntail\n"
    once = fill_docs.filled(text, [result])
    assert once.startswith("head\n")
    assert once.endswith("\ntail\n")
    assert "old" not in once
    assert "| magrpo | 2 / 2 |" in once
    assert fill_docs.filled(once, [result]) == once


def test_unequal_work_is_refused() -> None:
    expected = {"context_tokens_per_env_step": 952.0, "response_tokens_per_env_step": 128.0}
    compare.check_equal("magrpo", _report(1), _report(1, context_tokens_per_env_step=955.0), expected)
    with pytest.raises(compare.UnequalWork, match="comlrl had 126.0 response"):
        compare.check_equal("magrpo", _report(1), _report(1, response_tokens_per_env_step=126.0), expected)


def test_tokens_by_hand() -> None:
    assert [task.tree_steps(k) for k in (1, 2)] == [4, 30]
    lengths = [263, 407, 551, 695]
    assert task.context_tokens_per_step(1) == 2 * sum(lengths) / 4
    assert task.context_tokens_per_step(2) == 2 * sum(2 ** (t + 1) * n for t, n in enumerate(lengths)) / 30


def test_the_bare_model_learns_from_each_distinct_token_once() -> None:
    chain, tree = floor.actor_load(3, 1), floor.actor_load(3, 2)
    assert (chain.rows, chain.length, chain.written) == (3, 263 + 3 * 144 + 64, 4 * 64)
    assert tree.rows * tree.length == pytest.approx(3 * (263 + 30 * 64 + 14 * 80))
    assert tree.rows * tree.written == pytest.approx(3 * 30 * 64, rel=0.01)
    # "[agent_0 sees]\n" before and "\n" after each of 4 observations and 3 responses of 2 agents.
    assert floor.critic_load(1, 2).length == 2 * (263 + 3 * 80 + 3 * 64 + 7 * 16)
    # "\n" after each observation, "> " before and "\n" after each response.
    assert floor.critic_load(1, 1).length == 263 + 3 * 80 + 3 * 64 + 4 + 3 * 3
    assert [len(floor.loads(m, 1)) for m in schedules.METHODS] == [3, 4, 2]


@pytest.mark.parametrize("method", schedules.METHODS)
def test_both_sides_update_on_as_many_joint_actions(method: str) -> None:
    """With the full buffer; a sample of MAGRPO is a node, which has two."""
    big = schedules.plan(method, "batched", 320, full_buffer=True)
    samples = schedules.samples_of(method)
    assert big.episodes * task.tree_steps(samples) == big.buffer * samples
    quarter = schedules.plan(method, "batched", 320)
    assert (4 * quarter.buffer, 4 * quarter.rollouts) == (big.buffer, big.rollouts)
    assert big.rollouts * task.tree_steps(samples) % (big.buffer * samples) == 0
    small = schedules.plan(method, "theirs", 320)
    assert small.episodes == 1
    assert small.buffer * samples == (small.per_step or task.TURNS)
    assert schedules.plan(method, "theirs", 151_936, quick=True).warm_up == 0


@pytest.mark.parametrize(("method", "schedule", "steps"), [("collm-cc", "batched", 4), ("collm-dc", "theirs", 4), ("magrpo", "batched", 4)])
def test_equal_steps(method: str, schedule: str, steps: int) -> None:
    assert schedules.plan(method, schedule, 320, equal_steps=True).optimizer_steps(method) == steps
    assert schedules.plan(method, "batched", 320).optimizer_steps(method) == 1
