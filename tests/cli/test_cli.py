"""The commands as a person types them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import collm
from collm import api
from collm.cli.main import app_main
from collm.config.catalog import models
from collm.config.load import load_config_file, resolve

ROWS = [
    {"task": {"string": "I"}, "responses": ["/setblock 0 0 0 stone", "/setblock 2 0 0 obsidian"]},
    {"task": {"string": "L"}, "responses": ["", ""]},
]


class Result:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def run(capsys):
    def call(*args: object) -> Result:
        with pytest.raises(SystemExit) as caught:
            app_main([str(arg) for arg in args])
        out, err = capsys.readouterr()
        return Result(int(caught.value.code or 0), out, err)

    return call


def rows_file(folder: Path, *lines: str) -> Path:
    file = folder / "rows.jsonl"
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return file


def test_version(run):
    assert run("--version").out == f"collm {collm.__version__}\n"


def test_lists(run, tmp_path):
    assert run("list", "tasks").out.startswith("strbuild ")
    assert "collm-dc" in run("list", "methods").out
    assert "strbuild --preset paper" in run("list", "presets").out
    assert run("list", "models").code == 0
    wrong = run("list", "modls")
    assert (wrong.code, wrong.err) == (
        2,
        "error: argument WHAT: 'modls' is none of tasks, methods, presets, models; nearest: models\n",
    )


def test_models_are_told_by_their_files(tmp_path):
    assert models(tmp_path) == []
    folder = tmp_path / "small"
    folder.mkdir()
    shape = {"model_type": "qwen3", "num_hidden_layers": 2, "hidden_size": 8, "vocab_size": 100}
    (folder / "config.json").write_text(json.dumps(shape), encoding="utf-8")
    assert models(tmp_path)[0].description.endswith("incomplete: it has no model.safetensors")
    header = json.dumps({"__metadata__": {"format": "pt"}, "w": {"dtype": "F32", "shape": [1000, 500], "data_offsets": [0, 0]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    assert models(tmp_path)[0].description == "qwen3, 2 layers of 8, vocabulary 100, 0.50 million parameters"


def test_config_prints_yaml_that_reproduces_it(run, tmp_path):
    shown = run("config", "strbuild", "--method", "collm-dc", "--seed", "5", "agents.2.model=mine")
    assert "temperature: 1.0" in shown.out
    assert "# sampling temperature" in shown.out
    file = tmp_path / "mine.yaml"
    file.write_text(shown.out, encoding="utf-8")
    assert load_config_file(file) == resolve("strbuild", method="collm-dc", seed=5, overrides=["agents.2.model=mine"])


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["train"], "argument TASK is missing"),
        (["train", "strbild"], "task 'strbild' is unknown (argument TASK); nearest: strbuild"),
        (["train", "strbuild", "--method", "colm-cc"], "(option --method); nearest: collm-cc"),
        (["train", "strbuild", "training.updats=1"], "nearest valid name: training.updates"),
        (["train", "strbuild", "--seed", "x"], "option --seed: expected a whole number >= 0, got 'x'"),
        (["train", "strbuild", "--resume", "x"], "option --resume continues a run with its own settings"),
        (["train", "--resume", "no/such"], "no/such holds no run"),
        (["eval", "no/such"], "no/such holds no run"),
        (["score", "strbuild", "no.jsonl"], "no.jsonl cannot be read: No such file or directory"),
    ],
)
def test_mistakes_get_one_line_and_exit_code_2(run, args, expected):
    result = run(*args)
    assert result.code == 2
    assert expected in result.err
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert result.out == ""


def test_a_typing_error_of_the_command_line_itself(run):
    assert "--seed" in run("train", "strbuild", "--sed", "1").err
    assert "train" in run("trian").err


def test_train_hands_over_the_settings(run, monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(api, "train", lambda config, **rest: calls.append((config, rest["run_dir"])))
    monkeypatch.setattr(api, "resume", lambda run_dir, **_: calls.append(run_dir))
    monkeypatch.setattr(api, "evaluate", lambda run_dir, **rest: calls.append((run_dir, rest["episodes"], rest["seed"])))
    folder = tmp_path / "run"
    assert run("train", "strbuild", "--run-dir", folder, "training.updates=3", "--seed", "4", "-p", "paper").code == 0
    assert calls.pop() == (resolve("strbuild", preset="paper", seed=4, overrides=["training.updates=3"]), folder)
    folder.mkdir()
    (folder / "config.yaml").write_text("", encoding="utf-8")
    assert run("train", "--resume", folder).code == 0
    assert run("eval", folder, "--episodes", "7").code == 0
    assert calls == [folder, (folder, 7, None)]
    assert "already holds a run" in run("train", "strbuild", "--run-dir", folder).err


def test_score_writes_one_object_per_row_in_order(run, tmp_path):
    file = rows_file(tmp_path, json.dumps(ROWS[0]), "", json.dumps(ROWS[1]))
    printed = run("score", "strbuild", file)
    results = [json.loads(line) for line in printed.out.splitlines()]
    assert [sorted(result)[:2] for result in results] == [["metrics", "reward"]] * 2
    assert {"iou", "adjacency", "coverage"} <= set(results[0]["metrics"])
    assert results[0]["metrics"]["coverage"] == pytest.approx(2 / 13)
    assert results[1]["metrics"]["coverage"] == 0

    comlrl = json.loads(run("score", "strbuild", file, "task.profile=comlrl").out.splitlines()[1])
    assert (results[1]["reward"], comlrl["reward"]) == (0.0, -0.5)

    out = tmp_path / "scores.jsonl"
    assert run("score", "strbuild", file, "--out", out).out == ""
    assert out.read_text(encoding="utf-8") == printed.out


def test_score_takes_any_number_of_agents(run, tmp_path):
    row = {"task": {"string": "I"}, "responses": ["/setblock 0 0 0 stone"] * 3}
    overrides = "task.palettes=[[stone], [stone], [stone]]"
    assert run("score", "strbuild", rows_file(tmp_path, json.dumps(row)), overrides).code == 0


def test_score_reproduces_the_released_code(run, shared, tmp_path):
    oracle = [json.loads(line) for line in (shared / "oracles" / "strbuild.public.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = [{"task": {"string": row["string"]}, "responses": [row["completion1"], row["completion2"]]} for row in oracle]
    scored = run("score", "strbuild", rows_file(tmp_path, *map(json.dumps, rows)), "task.profile=comlrl")
    results = [json.loads(line) for line in scored.out.splitlines()]
    for result, recorded in zip(results, oracle, strict=True):
        assert result["reward"] == pytest.approx(recorded["reward"], abs=1e-9)
        assert result["metrics"]["iou"] == pytest.approx(recorded["iou"], abs=1e-9)
        assert result["metrics"]["coverage"] == pytest.approx(recorded["coverage"], abs=1e-9)


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        ("{", "rows.jsonl, line 2: not valid JSON"),
        ("[1]", "rows.jsonl, line 2: expected an object"),
        ('{"task": {"string": "I"}}', "rows.jsonl, line 2: field 'responses' is missing"),
    ],
)
def test_a_bad_row_is_named_and_the_rows_before_it_are_kept(run, tmp_path, bad, expected):
    file = rows_file(tmp_path, json.dumps(ROWS[0]), bad, json.dumps(ROWS[1]))
    printed = run("score", "strbuild", file)
    assert (printed.code, printed.out.count("\n")) == (2, 1)
    assert expected in printed.err
    out = tmp_path / "scores.jsonl"
    written = run("score", "strbuild", file, "--out", out)
    assert out.read_text(encoding="utf-8") == printed.out
    assert "scores.jsonl holds the 1 rows before" in written.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl", "scores.jsonl"]


def test_nothing_scored_leaves_an_older_output_alone(run, tmp_path):
    out = tmp_path / "scores.jsonl"
    out.write_text("old\n", encoding="utf-8")
    assert run("score", "strbuild", rows_file(tmp_path, "{"), "--out", out).code == 2
    assert out.read_text(encoding="utf-8") == "old\n"
    assert "cannot be written" in run("score", "strbuild", rows_file(tmp_path, "{"), "--out", tmp_path / "no" / "out").err


def test_the_settings_commands_need_no_torch():
    code = (
        "import sys; from collm.cli.main import app_main\n"
        "try: app_main(['config', 'strbuild'])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, timeout=60)


def test_other_errors_propagate(monkeypatch):
    def fail(*_args: object, **_kwargs: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(api, "train", fail)
    with pytest.raises(ZeroDivisionError):
        app_main(["train", "strbuild"])
