"""Environments stepped in worker processes: the same episodes, and clear errors where a worker or an environment fails."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from rollout_tools import WINDOW, make_team
from step_envs import DyingLetters, FailingLetters, TellingLetters
from toy_envs import LettersEnv

from collm.errors import WorkerError
from collm.rollout.branch import EpisodePlan, RolloutSettings, TreeShape
from collm.rollout.collect import collect
from collm.rollout.describe import describe
from collm.rollout.stepping import Stepper, Way
from collm.types import Episode

PLANS = [EpisodePlan(f"e{i}", None, 100 + i) for i in range(3)]


class HoldingLetters(LettersEnv):
    """Cannot be pickled."""

    worker_steps = True

    def __init__(self) -> None:
        super().__init__(2, 2)
        self.held = lambda: None


def play(env, workers: int, tree: TreeShape = TreeShape()) -> list[Episode]:  # noqa: B008
    settings = RolloutSettings("full", WINDOW, greedy=False, update=0, in_flight=2, tree=tree)
    with ThreadPoolExecutor(2) as executor, Stepper(workers) as stepper:
        return collect(PLANS, env, make_team(2).policies, settings, executor, lambda: None, stepper=stepper)[0]


def without_processes(episodes: list[Episode]) -> tuple[list[dict], set[int]]:
    rows = [describe(e) for e in episodes]
    return rows, {action.pop("details")["process"] for row in rows for action in row["turns"]}


@pytest.mark.parametrize("tree", [TreeShape(), TreeShape(2)])
def test_episodes_are_those_stepped_in_this_process(tree):
    here, own = without_processes(play(TellingLetters, 0, tree))
    there, others = without_processes(play(TellingLetters, 2, tree))
    assert there == here
    assert own == {os.getpid()}
    assert os.getpid() not in others
    assert 1 <= len(others) <= 2


def test_an_environments_error_names_the_episode_and_the_turn():
    with pytest.raises(RuntimeError, match="no reward today") as caught:
        play(FailingLetters, 1)
    notes = "".join(caught.value.__notes__)
    assert "episode e0, turn 1" in notes
    assert "In the worker process" in notes


def test_a_worker_that_ends_is_told_with_episode_and_mend():
    with pytest.raises(WorkerError, match="exit code 3.*env_workers=0") as caught:
        play(DyingLetters, 1)
    assert "episode e0, turn 0" in str(caught.value)


def test_what_cannot_be_sent_is_told():
    with pytest.raises(WorkerError, match="HoldingLetters cannot be pickled"):
        play(HoldingLetters, 1)


def test_ways_follow_what_classes_declare_and_the_setting():
    class Waiting(LettersEnv):
        concurrent_steps = True

    class Never(LettersEnv):
        worker_steps = False

    for env, workers, way in [
        (LettersEnv(), None, Way.INLINE),
        (LettersEnv(), 1, Way.PROCESSES),
        (Waiting(), None, Way.THREADS),
        (TellingLetters(), 0, Way.INLINE),
        (Never(), 2, Way.INLINE),
    ]:
        with Stepper(workers) as stepper:
            assert stepper.prepare(env) is way, (type(env).__name__, workers)
