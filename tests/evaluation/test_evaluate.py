"""`collm.evaluate` and `collm eval`: what they write, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import small_model
from run_tools import agent, toy_config
from toy_envs import LettersEnv

import collm
from collm.cli.main import app_main
from collm.config.load import load_config_file, resolve
from collm.config.schema import Config
from collm.errors import ConfigError, EnvContractError, ModelError, RunFolderError
from collm.evaluation.pass_at_k import pass_at_k
from collm.evaluation.target import run_folder
from collm.models.loading import LoadedModel
from collm.training.trainer import Trainer

TIMES = ("seconds_", "timed_")


def logged(folder: Path, log: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / log).read_text(encoding="utf-8").splitlines()]


def without_times(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if not key.startswith(TIMES)}


def with_words(config: Config, folder: Path, words: str) -> Config:
    """The test rows of `toy_envs:LettersEnv` are words of one letter each."""
    file = folder / "words.jsonl"
    file.write_text("".join(json.dumps({"word": w}) + "\n" for w in words))
    task = config.task.model_copy(update={"data": str(file), "train_rows": "0:1", "test_rows": "1:"})
    return config.model_copy(update={"task": task})


@pytest.fixture(scope="module")
def trained(tmp_path_factory, folders) -> Path:
    """A finished run of two agents."""
    config = toy_config([agent(folders[0]), agent(folders[1], temperature=0.7, top_k=9)], {}, training={"updates": 2})
    run = collm.train(config, run_dir=tmp_path_factory.mktemp("runs") / "run")
    return run.path


# -- models that were not trained --------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["parallel", "pipeline", "discussion"])
def test_a_row_says_what_its_episodes_say(protocol, letters, tmp_path):
    config = with_words(letters(3, {"turns": 2, "solved_above": 0.15}), tmp_path, "qabc")
    row = collm.evaluate(config, protocol, samples_per_row=4, run_dir=tmp_path / "eval")
    assert logged(tmp_path / "eval", "eval.jsonl") == [row]
    assert load_config_file(tmp_path / "eval" / "config.yaml") == config
    assert sorted(p.name for p in (tmp_path / "eval").iterdir()) == ["config.yaml", "eval.jsonl", "eval_episodes.jsonl"]
    assert (row["protocol"], row["task"], row["method"], row["seed"]) == (protocol, "custom", None, 0)
    assert row["models"] == [a.model for a in config.agents]
    assert (row["rows"], row["samples_per_row"], row["episodes"], row["greedy"]["episodes"]) == (3, 4, 12, 3)
    episodes = logged(tmp_path / "eval", "eval_episodes.jsonl")
    assert [e["task"]["word"] for e in episodes] == [*"aaaabbbbcccc", *"abc"]
    assert {(e["evaluation"], e["protocol"]) for e in episodes} == {(0, protocol)}
    sampled = [e for e in episodes if "sampled" in e["id"]]
    turns = [t for e in sampled for t in e["turns"]]
    assert row["return_mean"] == pytest.approx(np.mean([sum(t["reward"] for t in e["turns"]) for e in sampled]))
    assert row["metrics"]["share"] == pytest.approx(np.mean([e["turns"][-1]["metrics"]["share"] for e in sampled]))
    assert row["turns_mean"] == pytest.approx(len(turns) / 12)
    assert row["terminated_share"] == pytest.approx(np.mean([e["turns"][-1]["terminated"] for e in sampled]))
    assert 0 < row["terminated_share"] < 1
    means = {"return": "return_mean", "turns": "turns_mean", "terminated": "terminated_share", "cost_tokens": "cost_tokens"}
    for key, mean in means.items():
        low, high = row["ci95"][key]
        assert low <= row[mean] <= high
        assert low < high or key == "cost_tokens", "these models hardly ever stop before their limit"
    assert row["ci95"]["metrics"]["share"][0] < row["metrics"]["share"] < row["ci95"]["metrics"]["share"][1]
    judged = sum(len(a["response_ids"]) for t in turns for a in t["agents"].values()) / (3 * len(turns))
    assert row["tokens_per_response"] == pytest.approx(judged)
    if protocol == "discussion":
        assert row["cost_tokens"] > 1.5 * judged, "the first answers cost as well"
    else:
        assert row["cost_tokens"] == pytest.approx(judged)
    assert row["cost_tokens"] == pytest.approx(np.mean(list(row["cost_tokens_by_agent"].values())))
    assert row["prompt_tokens"] > 5


def test_episodes_tell_who_was_told_what_within_a_turn(letters, tmp_path):
    for protocol in ("parallel", "pipeline", "discussion"):
        collm.evaluate(letters(2), protocol, run_dir=tmp_path / protocol)
    turn = {p: logged(tmp_path / p, "eval_episodes.jsonl")[0]["turns"][0] for p in ("parallel", "pipeline", "discussion")}
    assert "phases" not in turn["parallel"]
    assert [list(phase) for phase in turn["pipeline"]["phases"]] == [["agent_0"], ["agent_1"]]
    heard = turn["pipeline"]["phases"][1]["agent_1"]
    assert turn["pipeline"]["agents"]["agent_0"]["text"] in heard["message"]
    assert heard["text"] == turn["pipeline"]["agents"]["agent_1"]["text"]
    first, again = turn["discussion"]["phases"]
    assert first["agent_1"]["text"] in again["agent_0"]["message"]
    assert again["agent_0"]["text"] == turn["discussion"]["agents"]["agent_0"]["text"]


def test_raw_is_one_model_and_one_turn(tmp_path, folders):
    few = [f"agents.0.model={folders[0]}", "agents.0.max_new_tokens=5", "evaluation.timed_turns=1", "evaluation.bootstrap=100"]
    row = collm.evaluate("strbuild", "raw", overrides=few, episodes=2, run_dir=tmp_path / "raw")
    assert (row["turns_mean"], row["models"], list(row["cost_tokens_by_agent"])) == (1.0, [folders[0]], ["agent_0"])
    assert {"iou", "adjacency"} <= set(row["metrics"])
    assert row["seconds_per_joint_turn"] > 0
    assert (row["timed_turns"], row["timed_on"]) == (1, "cpu, 1 threads")
    written = load_config_file(tmp_path / "raw" / "config.yaml")
    assert (len(written.agents), written.task.model_dump()["turns"]) == (1, 1)
    # What is written repeats the evaluation.
    again = collm.evaluate("strbuild", "raw", config_file=tmp_path / "raw" / "config.yaml", episodes=2, run_dir=tmp_path / "again")
    assert without_times(again) == without_times(row)


def test_measuring_time_changes_no_sample(letters, tmp_path):
    rows = {n: collm.evaluate(letters(2, evaluation={"timed_turns": n}), "discussion", run_dir=tmp_path / str(n)) for n in (0, 3)}
    assert (rows[0]["seconds_per_joint_turn"], rows[3]["timed_turns"]) == (None, 3)
    assert without_times(rows[0]) == without_times(rows[3])
    assert logged(tmp_path / "0", "eval_episodes.jsonl") == logged(tmp_path / "3", "eval_episodes.jsonl")


def test_folders_are_named_by_task_and_protocol_and_never_written_over(letters, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        collm.evaluate(letters(2), "pipeline", episodes=1, seed=3)
    assert sorted(p.name for p in Path("runs").iterdir()) == ["eval-LettersEnv-pipeline-seed3", "eval-LettersEnv-pipeline-seed3-2"]
    folder = Path("runs/eval-LettersEnv-pipeline-seed3")
    with pytest.raises(RunFolderError, match="already holds a run"):
        collm.evaluate(letters(2), "pipeline", run_dir=folder)
    with pytest.raises(RunFolderError, match="holds an evaluation, no run; repeat it with `collm eval TASK --protocol NAME --config"):
        collm.evaluate(folder)
    with pytest.raises(RunFolderError, match="holds an evaluation of `collm eval`, no run"):
        collm.resume(folder)
    assert len(logged(folder, "eval.jsonl")) == 1


def test_discussion_rounds_are_a_setting(letters, tmp_path):
    once = collm.evaluate(letters(2), "discussion", run_dir=tmp_path / "1")
    twice = collm.evaluate(letters(2, evaluation={"discussion_rounds": 2}), "discussion", run_dir=tmp_path / "2")
    assert 1.3 < twice["cost_tokens"] / once["cost_tokens"] < 1.7
    assert len(logged(tmp_path / "2", "eval_episodes.jsonl")[0]["turns"][0]["phases"]) == 3


class PassesEnv(LettersEnv):
    """An answer passes where it holds enough letters."""

    def step(self, actions):
        observations, rewards, terminations, truncations, infos = super().step(actions)
        passed = float(self._share > 0.1)
        return observations, rewards, terminations, truncations, {a: {"metrics": {"passed_all": passed}} for a in infos}


def test_pass_at_k_of_as_many_k_as_the_samples_allow(letters, tmp_path):
    config = letters(2, training={"episodes_in_flight": 8})
    words: list[Any] = [{"word": w} for w in "aeiou"]
    row = collm.evaluate(config, "parallel", samples_per_row=6, run_dir=tmp_path / "e", env=PassesEnv, rows=(words, words))
    episodes = [e for e in logged(tmp_path / "e", "eval_episodes.jsonl") if "sampled" in e["id"]]
    passed = [sum(e["turns"][-1]["metrics"]["passed_all"] for e in episodes if e["task"] == w) for w in words]
    assert 0 < sum(passed) < 30
    assert list(row["pass_at_k"]) == ["1", "3", "5"]
    for k in (1, 3, 5):
        assert row["pass_at_k"][str(k)] == pytest.approx(np.mean([pass_at_k(6, int(c), k) for c in passed]))
        low, high = row["pass_at_k_ci95"][str(k)]
        assert 0 <= low <= row["pass_at_k"][str(k)] <= high <= 1
    assert row["pass_at_k"]["1"] == pytest.approx(row["metrics"]["passed_all"])


def test_live_models(letters, tmp_path):
    models = {f"agent_{i}": small_model(kind, i) for i, kind in enumerate(("llama", "gpt2"))}
    config = letters(2)
    live = collm.evaluate(config, "pipeline", models=models, run_dir=tmp_path / "live")
    assert without_times(live) != without_times(collm.evaluate(config, "pipeline", run_dir=tmp_path / "configured"))
    assert isinstance(models["agent_0"], LoadedModel)


# -- trained runs ------------------------------------------------------------------------------------------------------


def test_a_run_is_evaluated_as_it_was_trained_and_under_protocols(trained):
    before = logged(trained, "eval.jsonl")
    row = collm.evaluate(trained)
    assert (row["protocol"], row["method"]) == ("decentralized", "collm-cc")
    assert (row["update"], row["env_steps"]) == (2, before[-1]["env_steps"])
    # The run's own last evaluation: same weights, seeds and sampling.
    own = {key: value for key, value in before[-1].items() if key not in ("seconds_evaluate",)}
    assert {key: row[key] for key in own} == own
    same = collm.evaluate(trained, "parallel")
    assert {**without_times(same), "protocol": "decentralized"} == without_times(row)
    talked = collm.evaluate(str(trained), "discussion", episodes=5, seed=1)
    raw = None
    with pytest.raises(EnvContractError, match="has 2 agents .* and the configuration lists 1"):
        raw = collm.evaluate(trained, "raw")
    assert raw is None
    assert logged(trained, "eval.jsonl") == [*before, row, same, talked]
    assert (talked["episodes"], talked["seed"], talked["return_mean"] != row["return_mean"]) == (5, 1, True)
    numbers = [e["evaluation"] for e in logged(trained, "eval_episodes.jsonl")]
    assert numbers == [len(before)] * 4 + [len(before) + 1] * 4 + [len(before) + 2] * 6
    assert row["models"] == [str(trained / "final" / f"agent_{i}") for i in (0, 1)]


def test_sampling_and_history_are_the_runs_own(folders, tmp_path):
    lora = {"tuning": "lora", "lora": {"rank": 2, "alpha": 8.0}, "optimizer": {"learning_rate": 0.05}}
    agents = [agent(folders[0], top_k=1, **lora), agent(folders[0], temperature=3.0, max_new_tokens=3, **lora)]
    config = toy_config(agents, lora, history="last", method="collm-dc", algorithm={"kl_coef": 0.1}, training={"updates": 1})
    run = collm.train(with_words(config, tmp_path, "xy"), run_dir=tmp_path / "run")
    row = collm.evaluate(run.path, samples_per_row=5)
    first, second = zip(*([t["agents"] for t in e["turns"]] for e in logged(run.path, "eval_episodes.jsonl")), strict=True)
    # top_k=1 leaves no chance, and every first prompt is the same; at temperature 3 no two answers are alike.
    assert len({turn["agent_0"]["text"] for turn in first}) == 1
    assert len({turn["agent_1"]["text"] for turn in first}) >= 5
    assert row["cost_tokens_by_agent"]["agent_1"] == 3.0
    assert not any(turn[a]["continues_history"] for turn in second for a in ("agent_0", "agent_1"))


def test_the_closing_table_of_a_run_is_of_its_own_evaluations(trained):
    from collm.reports.summary import before_after

    collm.evaluate(trained, "discussion", samples_per_row=7)
    assert "(3 sampled episodes" in str(before_after(trained).title)


def test_one_trained_agent_is_evaluated_alone(letters, tmp_path):
    config = letters(1, training={"updates": 1, "episodes_per_update": 2})
    run = collm.train(config, run_dir=tmp_path / "run")
    assert collm.evaluate(run.path)["protocol"] == "decentralized"
    assert collm.evaluate(run.path, "raw")["protocol"] == "raw"
    with pytest.raises(ConfigError, match="discussion is how several agents work together and there is one"):
        collm.evaluate(run.path, "discussion")


def test_a_run_with_live_objects_needs_them_again(letters, tmp_path):
    models: Any = {n: small_model("qwen3", i) for i, n in enumerate(("agent_0", "agent_1", "critic"))}
    trainer = Trainer(letters(2, training={"updates": 1}), tmp_path / "run", models=models, env=LettersEnv)
    assert trainer.run()
    with pytest.raises(RunFolderError, match=r"pass them again from Python: env=\.\.\."):
        collm.evaluate(tmp_path / "run")
    assert collm.evaluate(tmp_path / "run", "pipeline", env=LettersEnv)["episodes"] == 3
    with pytest.raises(ConfigError, match=r"the environment has 2 agents \(agent_0, agent_1\) and raw plays 1"):
        collm.evaluate(tmp_path / "run", "raw", env=LettersEnv)
    assert collm.evaluate(tmp_path / "run", "raw", env=lambda: LettersEnv(n=1, turns=1))["turns_mean"] == 1.0


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_what_names_a_run_and_what_a_task(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("strbuild", "mine"):
        Path(name).mkdir()
        Path(name, "config.yaml").write_text("")
    assert run_folder("strbuild", None) == Path("strbuild")
    assert run_folder("strbuild", "raw") is None
    assert run_folder("./strbuild", "raw") == Path("strbuild")
    assert run_folder("mine", "raw") == Path("mine")
    assert run_folder("pkg.module:Env", "raw") is None
    assert run_folder("strbild", "raw") is None


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["strbild", "--protocol", "raw"], "task 'strbild' is unknown (argument TASK); nearest: strbuild"),
        (["strbuild"], "option --protocol is missing: `collm eval strbuild --protocol raw|parallel|pipeline|discussion`"),
        (
            ["strbuild", "--protocol", "paralel"],
            "option --protocol: 'paralel' is none of raw, parallel, pipeline, discussion; nearest: parallel",
        ),
        (["runs/none", "--protocol", "raw"], "runs/none holds no run"),
        (["strbuild", "--protocol", "raw", "task.test_rows=50:60"], "selects none of the 10 rows"),
        (["strbuild", "--protocol", "raw", "task.data=none.csv"], "task.data: the file none.csv does not exist"),
        (["strbuild", "--protocol", "raw", "agents.0.model=./none"], "model folder ./none does not exist"),
        (["strbuild", "--protocol", "raw", "--episodes", "3", "--samples-per-row", "2"], "options --episodes and --samples-per-row"),
        (["strbuild", "--protocol", "raw", "--samples-per-row", "0"], "option --samples-per-row: expected a whole number >= 1, got '0'"),
        (["strbuild", "--protocol", "pipeline", "agents.1=null"], "pipeline is how several agents work together and there is one"),
    ],
)
def test_mistakes_get_one_line_and_leave_nothing(args, expected, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        app_main(["eval", *args])
    printed = capsys.readouterr()
    assert caught.value.code == 2
    assert printed.err.startswith("error: ")
    assert expected in printed.err
    assert printed.err.count("\n") == 1
    assert not list(tmp_path.rglob("*.*"))


def test_a_run_takes_no_settings_of_a_task(trained, capsys):
    for args in (["task.turns=1"], ["--preset", "paper"], ["--run-dir", "elsewhere"]):
        with pytest.raises(SystemExit):
            app_main(["eval", str(trained), *args])
        assert "does not go with" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="is a run and is evaluated with its own settings"):
        collm.evaluate(trained, overrides=["task.turns=1"])
    with pytest.raises(ConfigError, match="a whole Config says everything itself"):
        collm.evaluate(resolve("strbuild"), "raw", overrides=["task.turns=1"])
    with pytest.raises(ConfigError, match="are evaluated under a protocol"):
        collm.evaluate(resolve("strbuild"))


def test_a_run_without_agents(trained, tmp_path):
    (tmp_path / "config.yaml").write_text((trained / "config.yaml").read_text())
    with pytest.raises(RunFolderError, match="has no final agents yet; finish it with `collm train --resume"):
        collm.evaluate(tmp_path)
    (tmp_path / "final" / "agent_0").mkdir(parents=True)
    with pytest.raises(RunFolderError, match="final has no agent_1, an agent of the environment; it has agent_0"):
        collm.evaluate(tmp_path)
    (tmp_path / "final" / "agent_1").mkdir()
    (tmp_path / "metrics.jsonl").write_text((trained / "metrics.jsonl").read_text())
    with pytest.raises(ModelError, match=r"final/agent_0 has no config.json"):
        collm.evaluate(tmp_path)
    assert not (tmp_path / "eval.jsonl").exists()


# -- the printed table -------------------------------------------------------------------------------------------------


def test_the_table_has_time_cost_and_percentages_within_100_columns(capsys, monkeypatch, tmp_path, folders):
    monkeypatch.setenv("COLUMNS", "100")
    few = [f"agents.{i}.{key}" for i in (0, 1) for key in (f"model={folders[i]}", "max_new_tokens=5")]
    few += ["task.turns=2", "evaluation.bootstrap=100", "evaluation.timed_turns=2"]
    with pytest.raises(SystemExit) as caught:
        app_main(["eval", "strbuild", "--protocol", "discussion", "-n", "4", "-d", str(tmp_path / "e"), *few])
    assert not caught.value.code
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0] == f"discussion on strbuild, 2 rows x 2 samples, into {tmp_path / 'e'}"
    top = next(i for i, line in enumerate(lines) if line.split()[:2] == ["time", "cost"])
    assert lines[top].split() == ["time", "cost", "adjacency", "IoU"]
    assert lines[top + 1].split() == ["s", "tokens", "%", "%"]
    row = logged(tmp_path / "e", "eval.jsonl")[0]
    shown = next(line for line in lines if line.strip().startswith("discussion  ")).split()
    percent = [100 * row["metrics"]["adjacency"], 100 * row["metrics"]["iou"]]
    assert shown[1:] == [f"{row['seconds_per_joint_turn']:.2f}", f"{row['cost_tokens']:.1f}", *(f"{p:.1f}" for p in percent)]
    (low, high), (least, most) = row["ci95"]["cost_tokens"], (100 * x for x in row["ci95"]["metrics"]["iou"])
    below = lines[next(i for i, line in enumerate(lines) if line.split() == shown) + 1].split()
    assert (below[0], below[2], below[4]) == ("2", f"{low:.1f}–{high:.1f}", f"{least:.1f}–{most:.1f}")
    assert all(len(line.rstrip()) <= 100 for line in lines[1:])
    assert all(f" {name} " in out for name in ("return", "coverage", "missing_palettes"))
