"""A run that is stopped, killed or failed and then resumed comes to the same numbers as one never interrupted."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from run_tools import agent, cli_environment, differences, final_digests, log_rows, model_folder, pin_to_one_core, toy_config

import collm
from collm.cli.main import app_main
from collm.config.load import dump
from collm.config.schema import Config
from collm.errors import RunFolderError
from collm.training.display import Display
from collm.training.stop import StopRequested, StopSwitch
from collm.training.trainer import Trainer

REPLAY = {"replay": {"max_policy_lag": 2}, "algorithm": {"epochs": 2, "minibatch": 6}}


def make_config(kind: str, models: Path) -> Config:
    qwen, llama = model_folder(models / "qwen3"), model_folder(models / "llama", "llama", 1)
    slow = {"learning_rate": 1e-3}  # samples two updates old must stay likely
    if kind == "on-policy":
        return toy_config([agent(qwen), agent(llama)], {})
    if kind == "long":
        return toy_config([agent(qwen), agent(llama)], {}, training={"updates": 10, "episodes_per_update": 2, "checkpoint_every": 50})
    if kind == "replay":
        training = {"updates": 5, "episodes_per_update": 3, "checkpoint_every": 3}
        return toy_config([agent(qwen, optimizer=slow), agent(llama, optimizer=slow)], {}, training=training, **REPLAY)
    if kind == "replay lora":
        lora = {"tuning": "lora", "lora": {"rank": 4}, "optimizer": slow}
        return toy_config([agent(qwen, **lora), agent(qwen, **lora)], lora, training={"updates": 4, "checkpoint_every": 2}, **REPLAY)
    optimizer = {"learning_rate": 0.01, "schedule": "cosine", "warmup_updates": 2, "weight_decay": 0.1}
    section = {"tuning": "lora", "optimizer": optimizer}
    return toy_config(
        [agent(qwen, **section), agent(llama)], section, {"solved_above": 0.1}, method="collm-dc", training={"checkpoint_every": 3}
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A function that gives a kind's configuration and its uninterrupted run."""
    root, made = tmp_path_factory.mktemp("whole"), {}

    def run(kind: str) -> tuple[Config, Path]:
        if kind not in made:
            made[kind] = make_config(kind, root)
            assert Trainer(made[kind], root / kind).run()
        return made[kind], root / kind

    return run


class Recorder(Display):
    def __init__(self) -> None:
        self.stops: list[tuple[str, int]] = []

    def stopped(self, signal_name: str, run_dir: Path, done: int) -> None:
        self.stops.append((signal_name, done))


class Died(BaseException):
    """Stands for a kill: nothing in the code under test handles it."""


class DiesAt(Display):
    """Ends the run between an update's row and what follows it."""

    def __init__(self, update: int) -> None:
        self._update = update

    def update(self, row) -> None:
        if row["update"] == self._update:
            raise Died


@pytest.mark.parametrize("kind", ["on-policy", "replay", "replay lora", "decentralized, scheduled"])
def test_a_run_stopped_again_and_again_equals_the_uninterrupted_one(kind, whole, tmp_path, monkeypatch):
    config, uninterrupted = whole(kind)
    left = 0

    def check(self: StopSwitch) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise StopRequested("SIGTERM")

    # Sittings grow longer, so that in the end each gets past an update or an evaluation, whatever their safe points. The last update is
    # tried one safe point more at a time: the first sitting past it stops in the evaluation after training.
    monkeypatch.setattr(StopSwitch, "check", check)
    recorder = Recorder()
    tries = 0
    for sitting in range(200):
        trainer = (
            Trainer(config, tmp_path / "pieces", display=recorder)
            if sitting == 0
            else Trainer.resume(tmp_path / "pieces", display=recorder)
        )
        before_the_last = trainer.counters.updates == config.training.updates - 1
        tries += before_the_last
        left = 3 + tries if before_the_last else (2, 8, 4, 11, 6)[sitting % 5] + 3 * (sitting // 5)
        if trainer.run():
            break
        assert not (tmp_path / "pieces" / "final").exists()
    else:
        pytest.fail("the run does not come to its end")
    assert len(recorder.stops) >= 4
    assert {0, config.training.updates} <= {done for _, done in recorder.stops}
    assert differences(uninterrupted, tmp_path / "pieces") == []


@pytest.mark.parametrize(("kind", "updates"), [("replay", (2, 5)), ("replay lora", (3,))])
def test_a_run_that_died_between_checkpoints_equals_the_uninterrupted_one(kind, updates, whole, tmp_path):
    config, uninterrupted = whole(kind)
    for update in updates:
        folder = tmp_path / f"died-{update}"
        with pytest.raises(Died):
            Trainer(config, folder, display=DiesAt(update)).run()
        # What a kill in the middle of writing leaves behind.
        with (folder / "metrics.jsonl").open("a") as f:
            f.write('{"update": 99, "env_st')
        with (folder / "episodes.jsonl").open("a") as f:
            f.write("[1, 2")
        half = folder / "checkpoints" / ".writing_000099"
        half.mkdir()
        (half / "state.pt").write_bytes(b"PK\x03\x04 half a checkpoint")
        assert Trainer.resume(folder).run()
        assert differences(uninterrupted, folder) == []
        assert [p.name for p in (folder / "checkpoints").iterdir() if p.name.startswith(".")] == []


def test_a_run_that_died_before_its_first_checkpoint_begins_again(whole, tmp_path):
    config, uninterrupted = whole("on-policy")

    class DiesFirst(Display):
        def evaluation(self, row) -> None:
            raise Died

    with pytest.raises(Died):
        Trainer(config, tmp_path / "died", display=DiesFirst()).run()
    assert len(log_rows(tmp_path / "died", "eval.jsonl")) == 1
    assert Trainer.resume(tmp_path / "died").run()
    assert differences(uninterrupted, tmp_path / "died") == []


def test_resuming_a_finished_run_changes_nothing(tmp_path):
    config = make_config("on-policy", tmp_path)
    run = collm.train(config, run_dir=tmp_path / "run")
    again = collm.evaluate(run.path, episodes=4)
    logs = {log: (run.path / log).read_bytes() for log in ("metrics.jsonl", "eval.jsonl", "episodes.jsonl")}
    finals, checkpoints = final_digests(run.path), sorted(p.name for p in (run.path / "checkpoints").iterdir())
    assert collm.resume(run.path).finished
    assert {log: (run.path / log).read_bytes() for log in logs} == logs
    assert again["return_mean"] == collm.resume(run.path).evaluations[-1]["return_mean"]
    assert final_digests(run.path) == finals
    assert sorted(p.name for p in (run.path / "checkpoints").iterdir()) == checkpoints


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    config = make_config("on-policy", tmp_path).model_copy(deep=True)
    config = config.model_copy(update={"training": config.training.model_copy(update={"keep_checkpoints": 3})})
    Trainer(config, tmp_path / "run").run()
    assert sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir()) == ["update_000002", "update_000003", "update_000004"]


def test_a_run_folder_is_never_written_over_or_by_two(tmp_path, capsys):
    config = make_config("on-policy", tmp_path)
    trainer = Trainer(config, tmp_path / "run")
    with pytest.raises(RunFolderError, match="being written by another process"):
        Trainer.resume(tmp_path / "run")
    assert trainer.run()
    with pytest.raises(RunFolderError, match="already holds a run"):
        Trainer(config, tmp_path / "run")
    with pytest.raises(RunFolderError, match="no config.yaml"):
        Trainer.resume(tmp_path)
    with pytest.raises(SystemExit) as exit_:
        app_main(["train", "--resume", str(tmp_path / "nowhere")])
    assert exit_.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_a_failed_start_lets_go_of_the_folder(tmp_path):
    config = make_config("on-policy", tmp_path)
    Trainer(config, tmp_path / "run").run()
    broken = tmp_path / "llama" / "config.json"
    text = broken.read_text()
    broken.unlink()
    with pytest.raises(collm.errors.ModelError):
        Trainer.resume(tmp_path / "run")
    broken.write_text(text)
    assert Trainer.resume(tmp_path / "run").run()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_to_the_command_line(number, whole, tmp_path):
    config, uninterrupted = whole("long")
    (tmp_path / "config.yaml").write_text(dump(config))
    folder = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "collm.cli.main",
        "train",
        "custom",
        "--config",
        str(tmp_path / "config.yaml"),
        "--run-dir",
        str(folder),
    ]
    with subprocess.Popen(
        command, env=cli_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=pin_to_one_core
    ) as process:
        try:
            deadline = time.monotonic() + 400
            while not (folder / "metrics.jsonl").exists() or not (folder / "metrics.jsonl").read_text():
                assert process.poll() is None, process.stderr.read()
                assert time.monotonic() < deadline
                time.sleep(0.01)
            # Held still meanwhile: on an idle machine the run would be over before the signal.
            process.send_signal(signal.SIGSTOP)
            with pytest.raises(RunFolderError, match="another process"):
                collm.resume(folder)
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)
            out, err = process.communicate(timeout=200)
        finally:
            process.kill()
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert f"collm train --resume {folder}" in out.replace("\n", "")
    done = len(log_rows(folder, "metrics.jsonl"))
    assert 1 <= done < 10
    assert [p.name for p in (folder / "checkpoints").iterdir()] == ["update_000000", f"update_{done:06d}"]
    assert json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["update"] == done
    assert collm.resume(folder).finished
    assert differences(uninterrupted, folder) == []
