"""Whole runs with small models: what they write, and that what they write can be used without them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import small_model
from pettingzoo import ParallelEnv
from run_tools import agent, differences, log_rows, model_folder, toy_config
from transformers import AutoModelForCausalLM, AutoTokenizer

import collm
from collm.config.load import config_from
from collm.config.schema import Config
from collm.models.generation import GenerationRequest
from collm.models.passes import load_critic
from collm.models.sequences import ValueInput
from collm.models.team import Critic, Policy
from collm.training.trainer import Trainer

ARCHITECTURES = ["qwen3", "llama", "gpt2", "qwen3", "llama"]

PER_RUN = """update env_steps episodes inference_calls generated_tokens policy_steps return_mean return_std discounted_return_mean
reward_mean reward_min reward_max reward_turn_0 reward_turn_1 env/share response_tokens_mean response_tokens_max cut_share terminated_share
kept_mass_mean dropped_turns seconds_generate seconds_reward seconds_score seconds_update seconds_total tokens_per_second
env_steps_per_second peak_memory_mb""".split()
PER_AGENT = "advantage_abs advantage_std policy_loss loss ratio max_ratio approx_kl".split()
PER_AGENT += "clip_fraction entropy kept_mass logprob gradient_norm".split()
PER_AGENT.append("normalisation_skipped")
PER_CRITIC = "loss value_mean explained_variance gradient_norm clip_fraction".split()


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> list[str]:
    """Five models; their tokenizers differ in templates, padding ids and sides."""
    root = tmp_path_factory.mktemp("models")
    tokenizers: list[dict[str, Any]] = [
        {},
        {"chat_template": None},
        {"pad_is_eos": True},
        {"padding_side": "left"},
        {"pad_is_eos": True, "padding_side": "left"},
    ]
    return [model_folder(root / str(i), kind, i, **tokenizers[i]) for i, kind in enumerate(ARCHITECTURES)]


def make_agents(folders: list[str], n: int, **changes: Any) -> list[dict[str, Any]]:
    """Every agent samples in its own way."""
    sampling = [
        {},
        {"temperature": 0.6, "top_p": 0.6},
        {"top_k": 5, "max_new_tokens": 9},
        {"temperature": 1.5},
        {"top_p": 0.9, "max_new_tokens": 1},
    ]
    return [agent(folders[i], **sampling[i], **changes) for i in range(n)]


def read_metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


# method, history, agents, m_t
RUNS = [
    ("collm-cc", "full", 2, "text"),
    ("collm-cc", "last", 3, "features"),
    ("collm-cc", "full", 5, "none"),
    ("collm-dc", "last", 1, "text"),
    ("collm-dc", "full", 3, "features"),
    ("collm-dc", "last", 2, "none"),
]


@pytest.mark.parametrize(("method", "history", "n", "info"), RUNS)
def test_a_run_reports_what_it_did_and_leaves_usable_models(method, history, n, info, folders, tmp_path):
    config = toy_config(
        make_agents(folders, n),
        {"global_info": info},
        # Solved now and then, so that episodes differ in length.
        {"solved_above": 0.5},
        method=method,
        history=history,
        training={"updates": 3, "episodes_per_update": 4, "episodes_in_flight": 3, "micro_batch_tokens": 200},
        logging={"episodes_per_update": None},
    )
    trainer = Trainer(config, tmp_path / "run")
    assert trainer.run()
    agents = [f"agent_{i}" for i in range(n)]
    critics = ["critic"] if method == "collm-cc" else [f"critic_{a}" for a in agents]
    assert list(trainer.team.critics) == critics
    rows = read_metrics(tmp_path / "run")
    assert [row["update"] for row in rows] == [1, 2, 3]
    check_metrics(rows, log_rows(tmp_path / "run", "episodes.jsonl"), agents, critics)
    check_evaluations(tmp_path / "run", updates=[0, 2, 3])
    for policy in trainer.team.policies.values():
        check_exported_agent(policy, tmp_path / "run" / "final" / policy.agent)
    for critic in trainer.team.critics.values():
        check_exported_critic(critic, 2 if info == "features" else 0, tmp_path / "run" / "final" / critic.name)
    assert sorted(p.name for p in (tmp_path / "run" / "final").iterdir()) == sorted(agents + critics)


def check_metrics(rows: list[dict[str, Any]], episodes: list[dict[str, Any]], agents: list[str], critics: list[str]) -> None:
    """Every field of method.md section 7 is there, finite and equal to what the written episodes say."""
    env_steps = tokens = 0
    for row in rows:
        wanted = PER_RUN + [f"{k}/{a}" for k in PER_AGENT for a in agents] + [f"{k}/{c}" for k in PER_CRITIC for c in critics]
        assert set(wanted) <= set(row)
        assert all(isinstance(v, int | float) and math.isfinite(v) for v in row.values())
        mine = [e for e in episodes if e["update"] == row["update"] - 1]
        steps = [turn for e in mine for turn in e["turns"]]
        answers = [turn["agents"][a] for turn in steps for a in agents]
        env_steps, tokens = env_steps + len(steps), tokens + sum(len(x["response_ids"]) for x in answers)
        assert (row["env_steps"], row["generated_tokens"]) == (env_steps, tokens)
        assert row["inference_calls"] == len(agents) * env_steps
        assert row["return_mean"] == pytest.approx(np.mean([sum(t["reward"] for t in e["turns"]) for e in mine]))
        discounted = [sum(0.9 ** t["turn"] * t["reward"] for t in e["turns"]) for e in mine]
        assert row["discounted_return_mean"] == pytest.approx(np.mean(discounted))
        assert row["reward_turn_1"] == pytest.approx(np.mean([t["reward"] for t in steps if t["turn"] == 1]))
        assert row["env/share"] == pytest.approx(np.mean([t["metrics"]["share"] for t in steps]))
        assert row["terminated_share"] == np.mean([e["turns"][-1]["terminated"] for e in mine])
        assert row["cut_share"] == pytest.approx(np.mean([x["stop"] == "length" for x in answers]))
        assert row["response_tokens_max"] == max(len(x["response_ids"]) for x in answers)
        for name in agents:
            # On-policy, one step per update: pi_old is pi.
            assert row[f"ratio/{name}"] == row[f"max_ratio/{name}"] == 1.0
            assert row[f"approx_kl/{name}"] == 0.0
            behaviour = [turn["agents"][name]["behaviour_logprob"] for turn in steps]
            assert row[f"logprob/{name}"] == pytest.approx(np.mean(behaviour), rel=1e-4)
            assert row[f"gradient_norm/{name}"] > 0
    cut = [rows[0][f"kept_mass/{a}"] for a in agents]
    assert [m < 0.999 for m in cut] == [False, True, True, False, True][: len(agents)]


def check_evaluations(run: Path, updates: list[int]) -> None:
    rows = [json.loads(line) for line in (run / "eval.jsonl").read_text().splitlines()]
    assert [row["update"] for row in rows] == updates
    steps = {0: 0, **{row["update"]: row["env_steps"] for row in read_metrics(run)}}
    for row in rows:
        assert row["env_steps"] == steps[row["update"]]
        low, high = row["return_ci95"]
        assert low <= row["return_mean"] <= high
        assert (row["episodes"], row["greedy"]["episodes"]) == (3, 1)
        assert math.isfinite(row["greedy"]["return_mean"])
        assert set(row["metrics"]) == {"share"}
    assert rows[0]["return_mean"] != rows[-1]["return_mean"], "the weights moved, so must the sampled return"


def check_exported_agent(policy: Policy, folder: Path) -> None:
    """Plain transformers load it and answer greedily with the same tokens as the host."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    length = policy.config.max_new_tokens
    ids = policy.chat.first("xy 0 0")
    assert tuple(tokenizer.apply_chat_template([{"role": "user", "content": "xy 0 0"}], add_generation_prompt=True)["input_ids"]) == ids
    expected = policy.host.generate([GenerationRequest(policy.agent, ("check", policy.agent), None, ids, 0, True)])[0].response_ids
    stop = [tokenizer.eos_token_id]
    with torch.no_grad():
        answer = model.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids)),
            max_new_tokens=length,
            do_sample=False,
            eos_token_id=stop,
            pad_token_id=0,
        )
    assert tuple(answer[0, len(ids) :].tolist()) == expected
    text = tokenizer.decode(answer[0, len(ids) :], skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert text == policy.chat.text(expected)


def check_exported_critic(critic: Critic, n_features: int, folder: Path) -> None:
    """load_critic gives the same value as the host."""
    backbone, tokenizer, head = load_critic(folder)
    ids = tuple(tokenizer("[agent_0 sees]\nxy 0 0\n", add_special_tokens=False)["input_ids"])
    features = (0.5, 0.25)[:n_features]
    expected = critic.host.values(critic.name, [ValueInput(ids, (len(ids) - 1,), (features,), {}, "here")])[0][0]
    with torch.no_grad():
        hidden = backbone(input_ids=torch.tensor([ids])).last_hidden_state[:, -1]
        read = torch.tensor([features]).reshape(1, -1)
        value = head(hidden, read)
        terms = torch.cat([hidden, read], dim=-1) * head.linear.weight
    assert expected != 0.0
    # Rounding is relative to what is added up, which nearly cancels where a value is small.
    assert float(value) == pytest.approx(expected, rel=0, abs=1e-6 * float(terms.abs().sum()))


@pytest.mark.parametrize(("method", "kind"), [("collm-cc", 0), ("collm-dc", 0), ("collm-cc", 2)])
def test_adapters_share_one_base_that_never_changes(method, kind, folders, tmp_path):
    lora = {"tuning": "lora", "lora": {"rank": 4, "alpha": 8.0}}
    agents = [agent(folders[kind], **lora), agent(folders[kind], temperature=0.7, **lora)]
    config = toy_config(agents, lora, method=method, training={"updates": 3})
    trainer = Trainer(config, tmp_path / "run")
    names = ["agent_0", "agent_1", *trainer.team.critics]
    assert len(trainer.team.hosts) == 1
    host = next(iter(trainer.team.hosts.values()))
    assert list(host.members) == names
    assert len(trainer.team.critics) == (1 if method == "collm-cc" else 2)
    # A fresh adapter changes nothing, so before training every member is the base.
    before = {name: host.full_state_dict(name) for name in names}
    adapters = {name: {k: v.clone() for k, v in host.state()[name]["weights"].items()} for name in names}
    assert trainer.run()
    rows = read_metrics(tmp_path / "run")
    assert rows[0]["ratio/agent_0"] == rows[0]["max_ratio/agent_1"] == 1.0
    state = host.state()
    for name in names:
        # V starts at zero and B at zero: a critic's A feels its first gradient at the third update.
        moved = [k for k, v in state[name]["weights"].items() if not torch.equal(v, adapters[name][k])]
        assert sorted(moved) == sorted(adapters[name])
    frozen = {k.replace(".base_layer.", "."): v for k, v in host.loaded.model.state_dict().items() if "lora_" not in k}
    assert all(torch.equal(v, before["agent_0"][k]) for k, v in frozen.items())
    for name in names:
        assert {k: v.shape for k, v in host.full_state_dict(name).items()} == {k: v.shape for k, v in frozen.items()}
    for policy in trainer.team.policies.values():
        folder = tmp_path / "run" / "final" / policy.agent
        check_merged(folder, frozen, state[policy.agent]["weights"], 8.0 / 4, transposed=ARCHITECTURES[kind] == "gpt2")
        check_exported_agent(policy, folder)
    for critic in trainer.team.critics.values():
        check_exported_critic(critic, 0, tmp_path / "run" / "final" / critic.name)


def check_merged(folder: Path, base: dict[str, torch.Tensor], adapter: dict[str, torch.Tensor], scale: float, transposed: bool) -> None:
    """The saved weights are W + alpha / r B A, everywhere (GPT-2 keeps its matrices transposed)."""
    saved = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    changed = 0
    for key, weight in base.items():
        owner = key.removesuffix(".weight")
        a = next((v for k, v in adapter.items() if k.startswith(f"{owner}.lora_A.")), None)
        b = next((v for k, v in adapter.items() if k.startswith(f"{owner}.lora_B.")), None)
        if a is not None and b is not None:
            delta = scale * (b @ a)
            weight = weight + (delta.T if transposed else delta)
            changed += 1
        torch.testing.assert_close(saved[key], weight, rtol=1e-5, atol=1e-7)
    assert changed == len(adapter) // 2


def test_replay_uses_samples_of_earlier_updates_with_their_ratio(folders, tmp_path):
    config = toy_config(
        make_agents(folders, 2, optimizer={"learning_rate": 5e-4}),
        {},
        replay={"max_policy_lag": 1, "draw": 8},
        training={"updates": 4, "episodes_per_update": 3},
        evaluation={"every": 0},
    )
    trainer = Trainer(config, tmp_path / "run")
    trainer.run()
    rows = read_metrics(tmp_path / "run")
    assert [len({e.update for e in trainer.learner.buffer.episodes()}), len(trainer.learner.buffer)] == [1, 6]  # those of update 5's reach
    for name in ("agent_0", "agent_1"):
        assert rows[0][f"ratio/{name}"] == rows[0][f"max_ratio/{name}"] == 1.0, "all samples are fresh"
        for row in rows[1:]:
            assert row[f"ratio/{name}"] != 1.0, "some samples are one update old"
            assert 0.2 < row[f"ratio/{name}"] < 5.0
            assert row[f"approx_kl/{name}"] > 0.0
    assert [row["policy_steps"] for row in rows] == [1, 2, 3, 4]
    check_evaluations(tmp_path / "run", updates=[0, 4])


def test_minibatches_and_epochs_take_their_steps(folders, tmp_path):
    config = toy_config(
        make_agents(folders, 2, optimizer={"learning_rate": 1e-3}),
        {"value_clip": 0.2},
        algorithm={"epochs": 2, "minibatch": 4, "clip_ratio": 0.2, "advantage_clip": 0.5, "advantage_normalization": "per_turn"},
        training={"updates": 2, "episodes_per_update": 3},
    )
    Trainer(config, tmp_path / "run").run()
    rows = read_metrics(tmp_path / "run")
    # 6 transitions: a minibatch of 4 and one of 2, twice.
    assert [row["policy_steps"] for row in rows] == [4, 8]
    assert rows[0]["max_ratio/agent_0"] > 1.0
    assert all(row["advantage_clipped/agent_0"] > 0 for row in rows)


def test_the_same_seed_gives_the_same_run_and_another_seed_another(folders, tmp_path):
    config = toy_config(make_agents(folders, 2), {}, training={"updates": 2})
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        Trainer(config.model_copy(update={"seed": seed}), tmp_path / name).run()
    assert differences(tmp_path / "a", tmp_path / "b") == []
    assert len(differences(tmp_path / "a", tmp_path / "c")) > 20


def test_task_rows_are_gone_through_evenly_and_the_test_rows_are_held_out(folders, tmp_path):
    words = ["ab", "cd", "ef", "gh", "ij"]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"word": w}) + "\n" for w in words))
    config = toy_config(
        make_agents(folders, 1),
        {},
        training={"updates": 3, "episodes_per_update": 3},
        evaluation={"sampled_episodes": 4},
        logging={"episodes_per_update": None},
    )
    task = config.task.model_copy(update={"data": str(tmp_path / "rows.jsonl"), "train_rows": "0:3", "test_rows": "3:5"})
    Trainer(config.model_copy(update={"task": task}), tmp_path / "run").run()
    seen = [e["task"]["word"] for e in log_rows(tmp_path / "run", "episodes.jsonl")]
    assert [sorted(seen[i : i + 3]) for i in (0, 3, 6)] == [words[:3]] * 3
    assert len({tuple(seen[i : i + 3]) for i in (0, 3, 6)}) > 1, "each sweep has an order of its own"
    observations = {t["agents"]["agent_0"]["observation"] for e in log_rows(tmp_path / "run", "episodes.jsonl") for t in e["turns"]}
    assert observations == {f"{w} {t} 0" for w in words[:3] for t in (0, 1)}
    assert [row["greedy"]["episodes"] for row in log_rows(tmp_path / "run", "eval.jsonl")] == [2, 2, 2]


class Echo(ParallelEnv[str, str, str]):
    """An environment as the README has it: two agents are paid for writing as much as each other."""

    metadata = {"name": "echo_v0"}  # noqa: RUF012
    possible_agents = ["left", "right"]  # noqa: RUF012

    def reset(self, seed=None, options=None):
        self.agents, self.turn, self.reward = list(self.possible_agents), 0, 0.0
        return {a: f"You are {a}. Write." for a in self.agents}, {a: {} for a in self.agents}

    def step(self, actions):
        lengths = [len(actions[a]) for a in self.possible_agents]
        self.turn, self.reward = self.turn + 1, -abs(lengths[0] - lengths[1]) / 10
        agents, over = self.agents, self.turn == 2
        self.agents = [] if over else self.agents
        each = {a: f"Difference {self.reward:.1f}." for a in agents}
        return each, dict.fromkeys(agents, self.reward), dict.fromkeys(agents, False), dict.fromkeys(agents, over), {a: {} for a in agents}

    def state(self):
        return {"text": f"turn {self.turn}", "features": np.array([self.turn], dtype=np.float32)}


def test_a_trainer_from_live_objects(tmp_path):
    config = config_from(
        {
            "agents": [{"max_new_tokens": 6, "optimizer": {"learning_rate": 0.01}}] * 2,
            "critic": {"optimizer": {"learning_rate": 0.01}},
            "training": {"updates": 2, "episodes_per_update": 2},
            "evaluation": {"sampled_episodes": 2, "bootstrap": 100},
            "logging": {"tensorboard": False},
        }
    )
    models = {"left": small_model("llama"), "right": small_model("gpt2", 1, chat_template=None), "critic": small_model("qwen3", 2)}
    trainer = Trainer(config, tmp_path / "run", models=models, env=Echo)
    assert trainer.run()
    assert trainer.team.policies["left"].host.loaded is models["left"]
    rows = read_metrics(tmp_path / "run")
    assert [row["env_steps"] for row in rows] == [4, 8]
    assert not any(key.startswith("env/") for key in rows[0])
    assert {p.name for p in (tmp_path / "run" / "final").iterdir()} == {"left", "right", "critic"}
    check_exported_agent(trainer.team.policies["right"], tmp_path / "run" / "final" / "right")
    # Live objects are handed over again to go on.
    models = {"left": small_model("llama"), "right": small_model("gpt2", 1, chat_template=None), "critic": small_model("qwen3", 2)}
    assert Trainer.resume(tmp_path / "run", models=models, env=Echo).run()


def test_an_environment_beside_the_user_by_its_import_path(folders, tmp_path, monkeypatch):
    (tmp_path / "mine_env.py").write_text("from toy_envs import LettersEnv\n\n\nclass Mine(LettersEnv):\n    pass\n")
    monkeypatch.chdir(tmp_path)
    changes = [f"agents.{i}.model={folders[i]}" for i in (0, 1)] + [f"agents.{i}.max_new_tokens=5" for i in (0, 1)]
    changes += [f"critic.model={folders[3]}", "training.updates=2", "training.episodes_per_update=2", "evaluation.sampled_episodes=2"]
    run = collm.train("mine_env:Mine", "collm-cc", overrides=changes)
    assert run.finished
    assert run.path == Path("runs/Mine-collm-cc-seed0")
    assert (run.path / "plots" / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    assert len(run.metrics) == 2
    assert [row["update"] for row in run.evaluations] == [0, 2]
    assert list((run.path / "tensorboard").glob("events.out.tfevents.*"))
    again = collm.evaluate(run.path)
    # The final folders are the trained weights, and the same seeds are played.
    assert again["return_mean"] == pytest.approx(run.evaluations[-1]["return_mean"])
    assert len(run.evaluations) == 3


@pytest.mark.slow
@pytest.mark.parametrize("shared_base", [False, True])
def test_the_built_in_models_on_strbuild(shared_base, tmp_path):
    if shared_base:
        changes = [f"{who}.{what}" for who in ("agents.0", "agents.1", "critic") for what in ("model=tiny-a", "tuning=lora")]
    else:
        changes = []
    changes += ["training.updates=2", "training.episodes_per_update=2", "evaluation.sampled_episodes=2", "task.turns=2", "history=full"]
    run = collm.train(
        "strbuild", "collm-cc", overrides=[*changes, "agents.0.max_new_tokens=24", "agents.1.max_new_tokens=24"], run_dir=tmp_path / "run"
    )
    assert run.finished
    row = run.metrics[0]
    assert row["ratio/agent_0"] == row["max_ratio/agent_1"] == 1.0
    assert {"env/iou", "env/adjacency", "env/coverage"} <= set(row)
    episode = log_rows(run.path, "episodes.jsonl")[0]
    texts = {name: part["text"] for name, part in episode["turns"][0]["agents"].items()}
    for name, text in texts.items():
        folder = run.path / "final" / name
        assert (
            AutoTokenizer.from_pretrained(folder).decode(episode["turns"][0]["agents"][name]["response_ids"], skip_special_tokens=True)
            == text
        )
        AutoModelForCausalLM.from_pretrained(folder)
    config: Config = Trainer.resume(run.path).config
    assert [a.tuning for a in config.agents] == (["lora"] * 2 if shared_base else ["full"] * 2)
