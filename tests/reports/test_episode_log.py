"""Reading episodes.jsonl: back to episodes, and one of them by its id."""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from reports.played import chain, tree, write_log
from run_tools import agent, model_folder, toy_config

from collm.errors import RunFolderError
from collm.reports.episode_log import EpisodeLog
from collm.rollout import describe as describing
from collm.rollout.describe import describe, restore
from collm.training.trainer import Trainer
from collm.types import Episode

UNLOGGED = {"update", "policy_version", "old_logprobs"}
"""Fields of a joint action that only training needs."""


def assert_equal(found: Episode, expected: Episode) -> None:
    assert (found.id, found.task, found.seed, found.update) == (expected.id, expected.task, expected.seed, expected.update)
    assert len(found.transitions) == len(expected.transitions)
    for a, b in zip(found.transitions, expected.transitions, strict=True):
        for field in fields(a):
            if field.name == "info":
                assert a.info.text == b.info.text
                np.testing.assert_array_equal(a.info.features, b.info.features)
            elif field.name not in UNLOGGED:
                assert getattr(a, field.name) == getattr(b, field.name), field.name


@pytest.mark.parametrize(
    "episode", [chain(), chain((1.0,)), tree(), chain(values={"critic": 0.5}, details={"blocks": [[0, 0, 0, "stone"]]})]
)
def test_an_episode_comes_back_from_its_line(episode):
    assert_equal(restore(json.loads(json.dumps(describe(episode)))), episode)


@pytest.mark.parametrize("method", ["collm-cc", "maremax"])
def test_a_run_s_episodes_come_back_from_its_log(method, tmp_path, monkeypatch):
    """Histories too, which the log holds as each turn's new tokens."""
    played: list[Episode] = []
    trainer_module = sys.modules[Trainer.__module__]
    monkeypatch.setattr(trainer_module, "describe", lambda e: played.append(e) or describing.describe(e))
    member = agent(model_folder(tmp_path / "qwen3"))
    config = toy_config([member, member], {}, {"turns": 3}, method=method, training={"updates": 1, "episodes_per_update": 2})
    Trainer(config, tmp_path / "run").run()
    log = EpisodeLog.open(tmp_path / "run")
    assert [e.id for e in log.entries] == [e.id for e in played] == ["0000000", "0000001"]
    for entry, episode in zip(log.entries, played, strict=True):
        assert_equal(log.read(entry).episode, episode)
        assert entry.team_return == pytest.approx(episode.discounted_return(1.0), abs=1e-12)
        assert (entry.group, entry.joint_actions, entry.turns) == (1, len(episode.transitions), 3)


@pytest.fixture
def log(tmp_path) -> EpisodeLog:
    episodes = [chain((r, 0.0), f"{10 * i:07d}", update=i // 2) for i, r in enumerate([0.5, 2.0, -1.0, 2.0, -1.0, 0.0])]
    return EpisodeLog.open(write_log(tmp_path / "run", [*episodes, chain((0.0, 1.5), "0000007", 2, terminated=True, truncated=False)]))


def test_entries_say_what_a_list_needs(log):
    last = log.entries[-1]
    assert (last.id, last.group, last.team_return, last.turns, last.solved, last.line) == ("0000007", 3, 1.5, 2, True, 7)
    assert last.task == {"string": "L", "difficulty": 1}
    assert [e.solved for e in log.entries[:-1]] == [False] * 6


def test_best_and_worst_are_the_newest_of_equals(log):
    assert (log.best().id, log.worst().id) == ("0000030", "0000040")
    assert (log.of(1).best().id, log.of(2).worst().id) == ("0000010", "0000020")


def test_an_id_is_found_with_and_without_its_zeros(log):
    assert log.find("0000020").line == log.find("20").line == log.find("020").line == 3


@pytest.mark.parametrize(
    ("wanted", "nearest"), [("24", "0000010, 0000020, 0000030"), ("99", "0000030, 0000040, 0000050"), ("0000x20", "0000020")]
)
def test_an_unknown_id_is_told_with_the_nearest(wanted, nearest, log):
    with pytest.raises(RunFolderError, match=f"has no episode {wanted}; nearest: .*{nearest}"):
        log.find(wanted)


def test_an_id_like_no_other_is_told_with_what_there_is(log):
    with pytest.raises(RunFolderError, match=r"has no episode abc; its ids go from 0000000 to 0000050$"):
        log.find("abc")


def test_an_unknown_update_is_told_with_the_nearest(log):
    with pytest.raises(RunFolderError, match=r"no episode of update 9; it has updates 1 to 3, nearest 3"):
        log.of(9)
    with pytest.raises(RunFolderError, match=r"no episode 0 in update 2; nearest: 0000020, 0000030"):
        log.of(2).find("0")


def test_several_evaluations_in_one_log_and_the_newest_is_meant(tmp_path):
    run = write_log(tmp_path / "run", [chain((1.0,), "eval-sampled-0-0"), chain((2.0,), "eval-sampled-0-0")], "eval_episodes.jsonl")
    log = EpisodeLog.open(run, "eval_episodes.jsonl")
    assert log.read(log.find("eval-sampled-0-0")).episode.transitions[0].reward == 2.0
    with pytest.raises(RunFolderError, match="has no episode eval-sampled-1-0; nearest: eval-sampled-0-0"):
        log.find("eval-sampled-1-0")


def test_a_line_that_is_just_being_written_is_not_there_yet(tmp_path):
    run = write_log(tmp_path / "run", [chain(), chain(name="0000004")])
    path = run / "episodes.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    assert [e.id for e in EpisodeLog.open(run).entries] == ["0000003"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{oops", "line 2: not JSON"),
        ("[]", "line 2: not an episode as this version of collm writes them"),
        ('{"id": "0"}', "line 2: not an episode as this version of collm writes them \\(no field 'task'\\)"),
        ('{"id": "0", "task": null, "seed": 0, "update": 0, "turns": []}', "line 2: an episode without turns"),
    ],
)
def test_a_line_that_is_no_episode_is_named(line, message, tmp_path):
    run = write_log(tmp_path / "run", [chain()])
    with (run / "episodes.jsonl").open("a", encoding="utf-8") as f:
        f.write(line + "\n")
    with pytest.raises(RunFolderError, match=message):
        EpisodeLog.open(run)


def test_logs_that_are_not_there_or_empty(tmp_path: Path):
    with pytest.raises(RunFolderError, match="episodes.jsonl does not exist; a run's first update writes it"):
        EpisodeLog.open(tmp_path)
    with pytest.raises(RunFolderError, match="eval_episodes.jsonl does not exist; `collm eval"):
        EpisodeLog.open(tmp_path, "eval_episodes.jsonl")
    with pytest.raises(RunFolderError, match="holds no episode: logging.episodes_per_update is 0"):
        EpisodeLog.open(write_log(tmp_path / "run", []))
