"""Rollouts that keep the batch full: who plays beside whom, and when steps come back, makes no difference to an episode."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from rollout_tools import WINDOW, make_team
from toy_envs import LettersEnv

from collm.models.host import Host
from collm.models.host_batch import HostBatch
from collm.rollout.asking import RolloutCost
from collm.rollout.branch import EpisodePlan, RolloutSettings, TreeShape, act
from collm.rollout.collect import collect, decentralized
from collm.rollout.describe import describe
from collm.rollout.stepping import Stepper
from collm.types import Episode

TOKENS = 40
PLANS = [EpisodePlan(f"e{i}", None, 100 + i) for i in range(7)]


def ragged_team(n: int = 2):
    """A third of the vocabulary ends a response: lengths differ by much."""
    team = make_team(n, tokens=TOKENS)
    for policy in team.policies.values():
        member = policy.host.members[policy.agent]
        member.decode = type(member.decode)(member.decode.rule, TOKENS, frozenset(range(0, 300, 17)))
    return team


def play(in_flight: int, tree: TreeShape = TreeShape(), stepper: Stepper | None = None, **how) -> tuple[list[Episode], RolloutCost]:  # noqa: B008
    team = ragged_team()
    settings = RolloutSettings("full", WINDOW, greedy=False, update=0, in_flight=in_flight, tree=tree)
    with ThreadPoolExecutor(2) as executor:
        return collect(PLANS, lambda: LettersEnv(2, 3), team.policies, settings, executor, lambda: None, stepper=stepper, **how)


def same(found: list[Episode], expected: list[Episode]) -> None:
    """Equal in everything, log-probabilities but for rounding."""
    rows, others = [describe(e) for e in found], [describe(e) for e in expected]
    assert logprobs(rows) == pytest.approx(logprobs(others), abs=1e-3)
    assert rows == others


def logprobs(rows: list[dict]) -> list[float]:
    """Take them out of the rows."""
    return [part.pop("behaviour_logprob") for row in rows for action in row["turns"] for part in action["agents"].values()]


class LateStepper(Stepper):
    """Has outcomes ready only when somebody waits for them, as worker processes may."""

    @property
    def immediate(self) -> bool:
        return False

    def submit(self, joints, keep_cut):
        class Late(Future):
            def __init__(self, joint):
                super().__init__()
                self._joint = joint

            def result(self, timeout=None):
                if not self.done():
                    self.set_result(act(self._joint, keep_cut))
                return super().result(timeout)

        return [Late(joint) for joint in joints]


@pytest.mark.parametrize("tree", [TreeShape(), TreeShape(2), TreeShape(2, greedy_baseline=True)])
def test_episodes_are_those_played_alone_and_in_step(tree):
    alone, _ = play(1, tree)
    lengths = {len(t.response_ids) for e in alone for tr in e.transitions for t in tr.turns.values()}
    assert len(lengths) > 5, "responses of one length: the test says nothing"
    same(play(3, tree)[0], alone)
    same(play(50, tree)[0], alone)
    same(play(3, tree, LateStepper())[0], alone)
    same(play(3, tree, answer=decentralized)[0], alone)


def test_no_more_episodes_play_than_may_and_all_caches_are_let_go_of(monkeypatch):
    hosts: list[Host] = []
    inner = Host.open_batch
    monkeypatch.setattr(Host, "open_batch", lambda self: hosts.append(self) or inner(self))
    _, cost = play(3)
    assert cost.peak_rows == 3
    assert len(hosts) == 2
    assert all(not host._caches for host in hosts)


def test_the_batch_stays_fuller_than_in_lockstep(monkeypatch):
    """Rows that go through the model per pass, where three episodes play at a time and lengths differ."""

    def passes(**how) -> int:
        count = 0
        inner = Host._forward

        def counted(self, ids_BT, *rest):
            nonlocal count
            count += ids_BT.shape[1] == 1
            return inner(self, ids_BT, *rest)

        with monkeypatch.context() as patch:
            patch.setattr(Host, "_forward", counted)
            play(3, **how)
        return count

    assert passes() < 0.85 * passes(answer=decentralized)


def test_a_rollout_can_be_stopped_between_pieces_of_work():
    team = ragged_team()
    calls = 0

    def on_turn() -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt

    settings = RolloutSettings("full", WINDOW, greedy=False, update=0, in_flight=3)
    with ThreadPoolExecutor(2) as executor, pytest.raises(KeyboardInterrupt):
        collect(PLANS, lambda: LettersEnv(2, 3), team.policies, settings, executor, on_turn)


def test_steps_in_threads_come_back_while_others_are_being_answered(monkeypatch):
    """With four episodes at a time and lengths that differ, some are stepped while the others' rows stay in the batch."""
    threads: set[str] = set()
    busy: list[int] = []

    class Watched(LettersEnv):
        concurrent_steps = True

        def step(self, actions):
            threads.add(threading.current_thread().name)
            return super().step(actions)

    inner = Stepper.submit
    batches: list[HostBatch] = []
    opened = Host.open_batch
    monkeypatch.setattr(Host, "open_batch", lambda self: batches.append(opened(self)) or batches[-1])
    monkeypatch.setattr(Stepper, "submit", lambda self, *given: busy.append(sum(map(len, batches))) or inner(self, *given))
    team = ragged_team()
    settings = RolloutSettings("full", WINDOW, greedy=False, update=0, in_flight=4)
    with ThreadPoolExecutor(2) as executor, Stepper() as stepper:
        episodes, _ = collect(PLANS, lambda: Watched(2, 3), team.policies, settings, executor, lambda: None, stepper=stepper)
        assert not stepper.immediate
    assert all(name.startswith("env-step") for name in threads)
    assert sum(rows > 0 for rows in busy) > len(busy) / 2
    same(episodes, play(4)[0])
