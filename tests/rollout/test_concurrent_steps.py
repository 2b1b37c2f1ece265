"""Environments that wait for something outside are stepped at the same time; what they answer is recorded in order."""

from __future__ import annotations

import threading
import time

import pytest
from rollout_tools import make_team, play
from toy_envs import LettersEnv

from collm.rollout.branch import TreeShape
from collm.rollout.describe import describe


class Meeting:
    """Copied with an environment, it stays the same object."""

    def __init__(self, parties: int) -> None:
        self.barrier = threading.Barrier(parties)

    def __deepcopy__(self, memo: dict) -> Meeting:
        return self


class WaitingEnv(LettersEnv):
    """A step goes on only once `parties` copies are being stepped; later ones wait shorter, so that they answer first."""

    concurrent_steps = True

    def __init__(self, meeting: Meeting, rank: int) -> None:
        super().__init__(2, 2)
        self._meeting, self._rank = meeting, rank

    def step(self, actions):
        self._meeting.barrier.wait(timeout=60)
        time.sleep(0.02 * (4 - self._rank))
        return super().step(actions)


def ranked(make):
    ranks = iter(range(100))
    return lambda: make(next(ranks))


def test_steps_meet_and_give_what_steps_one_by_one_give():
    meeting = Meeting(4)
    waiting, _ = play(make_team(2), TreeShape(), ranked(lambda rank: WaitingEnv(meeting, rank)), plans=4)
    alone, _ = play(make_team(2), TreeShape(), lambda: LettersEnv(2, 2), plans=4)
    assert [describe(e) for e in waiting] == [describe(e) for e in alone]


def test_samples_of_a_tree_meet_too():
    meeting = Meeting(2)
    (episode,), _ = play(make_team(2), TreeShape(2), ranked(lambda rank: WaitingEnv(meeting, rank)))
    assert len(episode.transitions) == 6


def test_an_error_names_its_episode():
    class BrokenEnv(LettersEnv):
        concurrent_steps = True

        def __init__(self, rank: int) -> None:
            super().__init__(2, 2)
            self._rank = rank

        def step(self, actions):
            if self._rank == 2:
                raise RuntimeError("no reward today")
            return super().step(actions)

    with pytest.raises(RuntimeError, match="no reward today") as caught:
        play(make_team(2), TreeShape(), ranked(BrokenEnv), plans=4)
    assert "episode e2, turn 0" in "".join(caught.value.__notes__)
