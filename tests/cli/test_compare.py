"""Methods against methods at equal env steps."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from run_tools import cli_environment, log_rows, model_folder

from collm.cli.main import app_main
from collm.comparison import pool
from collm.comparison.plan import Settings, method_names, plan, seed_numbers, split_overrides
from collm.config.load import dump, resolve
from collm.config.presets import methods
from collm.errors import ConfigError, RunFolderError
from collm.reports import comparison as figures
from collm.reports.comparison_files import draw


@pytest.fixture
def run(capsys):
    def call(*args: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            app_main(["compare", *map(str, args)])
        return int(caught.value.code or 0), *capsys.readouterr()

    return call


def finished_run(folder: Path, method: str, seed: int, returns: list[float], steps: list[int], held_out: tuple[float, float], budget: int):
    """What a run leaves behind that reports read: `returns` and `steps` of its updates, held-out return before and after."""
    run = folder / f"{method}-seed{seed}"
    for name in ("plots", "final"):
        (run / name).mkdir(parents=True)
    (run / "plots" / "learning_curve.png").touch()
    (run / "config.yaml").write_text(dump(Settings("strbuild", budget).config(method, seed)), encoding="utf-8")
    updates = [
        {"update": u, "env_steps": s, "return_mean": r, "seconds_total": 2.0}
        for u, (r, s) in enumerate(zip(returns, steps, strict=True), 1)
    ]
    write_rows(run / "metrics.jsonl", updates)
    evaluations = [
        {"update": u, "return_mean": r, "return_ci95": [r - 0.1, r + 0.1], "greedy": {"return_mean": r + 1}, "seconds_evaluate": 5.0}
        for u, r in zip((0, len(steps)), held_out, strict=True)
    ]
    write_rows(run / "eval.jsonl", evaluations)
    return run


def write_rows(file: Path, rows: list[dict]) -> None:
    with file.open("a", encoding="utf-8") as log:
        log.writelines(json.dumps(row) + "\n" for row in rows)


def two_methods(folder: Path) -> None:
    """magrpo and collm-cc, two seeds each, 100 env steps; collm-cc's updates are longer and overshoot."""
    for seed in (0, 1):
        finished_run(folder, "magrpo", seed, [1.0, 2.0 + seed], [50, 100], (1.0, 2.0 + seed), 100)
        finished_run(folder, "collm-cc", seed, [1.0, 3.0], [80, 160], (1.0, 4.0 + seed), 100)


# -- what is asked for -------------------------------------------------------------------------------------------------


def test_seeds_are_a_count_or_a_list():
    assert seed_numbers("3") == [0, 1, 2]
    assert seed_numbers("3,4, 7") == [3, 4, 7]
    assert seed_numbers("7,") == [7]


def test_overrides_of_one_method_are_told_apart():
    texts = ["task.turns=2", "magrpo:training.episodes_per_update=2", "task.env_args={a: b:c}", "magrpo:monte_carlo.samples=4"]
    shared, own = split_overrides(texts)
    assert shared == ["task.turns=2", "task.env_args={a: b:c}"]
    assert own == {"magrpo": ["training.episodes_per_update=2", "monte_carlo.samples=4"]}


@pytest.mark.parametrize("method", methods())
def test_every_method_gets_the_same_budget_and_updates_enough_for_it(method):
    assert method_names(method) == [method]
    config = Settings("strbuild", 100, shared=["task.turns=3"]).config(method, 4)
    assert (config.training.env_steps, config.seed, config.evaluation.every) == (100, 4, 0)
    # One joint action an episode is the least.
    assert config.training.updates * config.training.episodes_per_update >= 100
    rest = {"training": {"env_steps", "updates"}, "evaluation": {"every"}}
    plain = resolve("strbuild", method=method, seed=4, overrides=["task.turns=3"])
    assert config.model_dump(exclude=rest) == plain.model_dump(exclude=rest)


def test_a_method_may_have_settings_of_its_own(tmp_path):
    settings = Settings("strbuild", 100, shared=["training.episodes_per_update=3"], own={"magrpo": ["training.episodes_per_update=2"]})
    runs = plan(settings, ["magrpo", "collm-cc"], [0, 5], tmp_path)
    assert [run.folder.name for run in runs] == ["magrpo-seed0", "collm-cc-seed0", "magrpo-seed5", "collm-cc-seed5"]
    assert [run.config.training.episodes_per_update for run in runs] == [2, 3, 2, 3]
    assert [run.config.seed for run in runs] == [0, 0, 5, 5]
    assert settings.default_folder() == Path("runs/compare-strbuild-100")
    assert Settings("a.b:Mine", 7).default_folder() == Path("runs/compare-Mine-7")


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], "argument TASK is missing"),
        (["strbild", "-n", "9"], "task 'strbild' is unknown"),
        (["strbuild"], "option --env-steps is missing"),
        (["strbuild", "-n", "0"], "option --env-steps: expected a whole number >= 1, got '0'"),
        (["strbuild", "-n", "9", "-m", "magrpo,colm-cc"], "option --methods: method 'colm-cc' is unknown; nearest: collm-cc"),
        (["strbuild", "-n", "9", "-m", "ac,ac"], "names a method twice"),
        (["strbuild", "-n", "9", "-m", ","], "option --methods: expected names"),
        (
            ["strbuild", "-n", "9", "-s", "1-3"],
            "option --seeds: expected how many (5 means seeds 0 to 4) or a list such as 3,4,7, got '1-3'",
        ),
        (["strbuild", "-n", "9", "-s", "0"], "option --seeds: expected how many"),
        (["strbuild", "-n", "9", "-j", "0"], "option --jobs: expected a whole number >= 1, got '0'"),
        (["strbuild", "-n", "9", "training.updates=3"], "a comparison sets training.updates itself"),
        (["strbuild", "-n", "9", "magrpo:seed=3"], "a comparison sets seed itself; give --seeds"),
        (["strbuild", "-n", "9", "magpro:task.turns=3"], "method 'magpro' is unknown; nearest: magrpo"),
        (["strbuild", "-n", "9", "-m", "ac", "magrpo:task.turns=3"], "magrpo is not compared here"),
        (["strbuild", "-n", "9", "-m", "magrpo", "task.turn=3"], "method magrpo: "),
        (["strbuild", "-n", "9", "-m", "magrpo,grpo", "agents.1.top_k=3"], "method grpo is magrpo with one agent and there are 2"),
        (["strbuild", "--report", "x"], "option --report only draws a comparison again"),
        (["--report", "no/such"], "no/such: nothing to compare, it holds no run folder"),
    ],
)
def test_mistakes_get_one_line_and_start_nothing(run, monkeypatch, tmp_path, args, expected):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*args)
    assert (code, out) == (2, "")
    assert expected in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_folder_made_with_other_settings_is_refused_and_the_difference_named(tmp_path):
    two_methods(tmp_path)
    assert len(plan(Settings("strbuild", 100), ["magrpo"], [0, 1, 2], tmp_path)) == 3
    with pytest.raises(RunFolderError, match=r"collm-cc-seed0 was made with other settings: task.turns is 4 there, 2 now\. Give the same"):
        plan(Settings("strbuild", 100, shared=["task.turns=2"]), ["collm-cc"], [0], tmp_path)
    # A run of a method that is not asked for now would be drawn with the others all the same.
    with pytest.raises(RunFolderError, match="magrpo-seed0 was made .*agents.1.top_k is 0 there, 5 now"):
        plan(Settings("strbuild", 100, own={"magrpo": ["agents.1.top_k=5"]}), ["collm-dc"], [0], tmp_path)
    with pytest.raises(RunFolderError, match=r"settings: training.env_steps is 100 there, 200 now\. Give"):
        plan(Settings("strbuild", 200), ["collm-cc"], [0], tmp_path)
    with pytest.raises(ConfigError, match="marloo is not compared here"):
        plan(Settings("strbuild", 100, own={"marloo": ["agents.1.top_k=5"]}), ["collm-cc"], [0], tmp_path)


def test_cores_are_dealt_out_evenly(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {2, 3, 5, 7, 8})
    assert pool.core_shares(1) == [[2, 3, 5, 7, 8]]
    assert pool.core_shares(2) == [[2, 3], [5, 7]]
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {4, 6})
    assert pool.core_shares(3) == [[4], [6], [4]]


# -- what comes of it --------------------------------------------------------------------------------------------------


def test_figures_of_finished_runs(tmp_path):
    two_methods(tmp_path)
    # What `collm eval` appends later is no part of the comparison.
    write_rows(tmp_path / "magrpo-seed0" / "eval.jsonl", [{"update": 2, "return_mean": 99.0}])
    found = figures.read_comparison(tmp_path)
    assert list(found.runs) == ["collm-cc", "magrpo"]
    assert [run.env_steps for run in found.runs["collm-cc"]] == [160, 160]
    # 80 steps at 1, then 20 of the 100 at 3; what lies beyond the budget does not count.
    assert found.spread("collm-cc", "area")[0] == pytest.approx(1.4)
    assert [run.area for run in found.runs["magrpo"]] == pytest.approx([1.5, 2.0])
    assert found.spread("magrpo", "final") == (2.5, (2.0, 3.0))
    assert found.spread("magrpo", "seconds")[0] == 14.0
    (pair,) = found.differences()
    assert (pair["a"], pair["b"], pair["difference"], pair["share_of_seed_pairs_a_above_b"]) == ("collm-cc", "magrpo", 2.0, 1.0)
    assert pair["ci95"] == [1.0, 3.0]


def test_curves_of_all_methods_stand_on_one_grid_and_keep_the_area(tmp_path):
    two_methods(tmp_path)
    found = figures.read_comparison(tmp_path)
    middles, curves = found.curves()
    assert len(middles) == 12
    assert middles[[0, -1]] == pytest.approx([100 / 24, 100 - 100 / 24])
    for method in ("magrpo", "collm-cc"):
        mean, low, high = curves[method]
        assert mean.mean() == pytest.approx(found.spread(method, "area")[0])
        assert np.all((low <= mean) & (mean <= high))
    assert curves["magrpo"][:, 0] == pytest.approx([1, 1, 1])
    assert curves["magrpo"][:, -1] == pytest.approx([2.5, 2, 3])


def test_shares_and_differences_by_hand():
    assert figures.share_above([1, 2], [0, 2]) == pytest.approx((1 + 0 + 1 + 0.5) / 4)
    mean, (low, high) = figures.difference_interval([3.0] * 5, [1.0, 2.0, 3.0, 1.0, 3.0])
    assert mean == pytest.approx(1.0)
    assert 0.2 <= low < 0.7 < 1.3 < high <= 1.8


def test_what_is_written(run, tmp_path):
    two_methods(tmp_path)
    (tmp_path / "ac-seed0").mkdir()
    (tmp_path / "ac-seed0" / "config.yaml").write_text(dump(Settings("strbuild", 100).config("ac", 0)), encoding="utf-8")
    code, out, err = run("--report", tmp_path)
    assert (code, err) == (0, "")
    assert "4.50 (4.00 to 5.00)" in out
    written = json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8"))
    assert written["methods"]["collm-cc"]["final"] == {"mean": 4.5, "ci95": [4.0, 5.0]}
    assert [row["folder"] for row in written["runs"]] == ["collm-cc-seed0", "collm-cc-seed1", "magrpo-seed0", "magrpo-seed1"]
    assert written["unfinished"] == ["ac-seed0"]
    page = (tmp_path / "comparison.md").read_text(encoding="utf-8")
    assert "| magrpo | 0, 1 | 1.00 (1.00 to 1.00) | 2.50 (2.00 to 3.00) | 1.75 (1.50 to 2.00) | 100 | 0.2 |" in page
    assert "| collm-cc | magrpo | +2.00 (+1.00 to +3.00) | 100% |" in page
    assert "Unfinished and left out: ac-seed0." in page
    picture = (tmp_path / "comparison.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert int.from_bytes(picture[16:20], "big") > 1000


def test_one_seed_has_no_interval(tmp_path):
    finished_run(tmp_path, "magrpo", 0, [1.0], [100], (1.0, 2.0), 100)
    finished_run(tmp_path, "ac", 3, [1.0], [100], (1.0, 1.5), 100)
    draw(tmp_path)
    assert "2.00 (one seed)" in (tmp_path / "comparison.md").read_text(encoding="utf-8")
    written = json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8"))
    assert written["final_return_differences"][0]["ci95"] is None
    assert written["methods"]["ac"]["final"]["ci95"] is None


def test_runs_that_do_not_compare_are_refused(tmp_path):
    two_methods(tmp_path)
    finished_run(tmp_path, "ac", 0, [1.0], [300], (1.0, 2.0), 300)
    with pytest.raises(RunFolderError, match=r"training.env_steps of these is 100, 300"):
        figures.read_comparison(tmp_path)


def test_a_finished_comparison_is_only_drawn_again(run, tmp_path):
    two_methods(tmp_path)
    code, out, _ = run("strbuild", "-m", "magrpo,collm-cc", "-s", 2, "-n", 100, "-d", tmp_path)
    assert code == 0
    assert "4 runs of 100 env steps each" in out
    assert "4 finished before" in out
    command = json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8"))["command"]
    assert command == f"collm compare strbuild --methods magrpo,collm-cc --seeds 2 --env-steps 100 --run-dir {tmp_path}"
    assert not (tmp_path / "logs").exists()


# -- real runs ---------------------------------------------------------------------------------------------------------


def command(folder: Path, models: Path, *more: object, env_steps: int = 24) -> list[str]:
    """A comparison on the toy environment, with small random models."""
    settings = [f"agents.{i}.{key}" for i in (0, 1) for key in (f"model={model_folder(models / str(i), seed=i)}", "max_new_tokens=4")]
    sizes = ["training.episodes_per_update=2", "evaluation.sampled_episodes=2", "logging.tensorboard=false"]
    options = ["--env-steps", str(env_steps), "--run-dir", str(folder), *map(str, more)]
    return [sys.executable, "-m", "collm.cli.main", "compare", "toy_envs:LettersEnv", *settings, *sizes, *options]


@pytest.mark.slow
def test_a_failed_run_takes_no_other_down_and_the_same_command_continues(tmp_path):
    folder = tmp_path / "compared"
    args = command(folder, tmp_path, "--methods", "magrpo,collm-dc", "--seeds", "1", "--jobs", "2")
    (folder / "magrpo-seed0").mkdir(parents=True)
    # Something stands where the final agents go.
    (folder / "magrpo-seed0" / "final").write_text("", encoding="utf-8")
    first = subprocess.run(args, env=cli_environment(), capture_output=True, text=True, timeout=300)
    assert first.returncode == 1
    assert "error: 1 of 2 runs failed" in first.stderr
    assert f"{folder}/magrpo-seed0: " in first.stderr
    written = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
    assert list(written["methods"]) == ["collm-dc"]
    assert written["unfinished"] == ["magrpo-seed0"]
    assert written["machine"]["cores_of_a_run"] >= 1
    assert "update 1, env steps " in (folder / "logs" / "collm-dc-seed0.log").read_text(encoding="utf-8")

    (folder / "magrpo-seed0" / "final").unlink()
    second = subprocess.run(args, env=cli_environment(), capture_output=True, text=True, timeout=300)
    assert (second.returncode, second.stderr) == (0, "")
    assert "1 finished before" in second.stdout
    written = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
    assert {row["method"]: row["env_steps"] >= 24 for row in written["runs"]} == {"magrpo": True, "collm-dc": True}


@pytest.mark.slow
def test_ctrl_c_stops_gracefully_and_says_how_to_continue(tmp_path):
    folder = tmp_path / "compared"
    run = folder / "collm-cc-seed3"
    # Long enough that no machine finishes it between the first checkpoint and the signal.
    args = command(folder, tmp_path, "--methods", "collm-cc", "--seeds", "3,", env_steps=120)
    process = subprocess.Popen(args, env=cli_environment(), stdout=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 300
    while not list(run.glob("checkpoints/update_*1")) and time.monotonic() < deadline:
        time.sleep(0.02)
    # To the whole group, as a terminal does.
    os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "SIGINT: stopped with 0 of 1 runs finished; nothing is lost. Continue with\n  collm compare toy_envs:LettersEnv" in out
    done = len(log_rows(run, "metrics.jsonl"))
    assert not figures.is_finished(run)

    subprocess.run(args, env=cli_environment(), check=True, capture_output=True, timeout=300)
    rows = log_rows(run, "metrics.jsonl")
    assert [row["update"] for row in rows] == list(range(1, len(rows) + 1))
    assert len(rows) > done >= 1
    assert rows[-1]["env_steps"] >= 120 > rows[-2]["env_steps"]
    assert figures.is_finished(run)
