"""Response time by a clock that only moves while agents answer."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import pytest
import torch

from collm.evaluation import timing
from collm.evaluation.protocols import PROTOCOLS, TurnSettings
from collm.evaluation.talks import Said
from collm.models.generation import GenerationRequest

SECONDS = {"a": 1.0, "b": 3.0, "c": 2.0}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[GenerationRequest] = []
        self.kept: set = set()

    def generate(self, requests: Sequence[GenerationRequest]) -> None:
        (request,) = requests  # one call at a time
        # An agent's every further call of a turn takes ten times as long.
        self.now += SECONDS[request.member] * 10 ** len(request.context_ids)
        self.calls.append(request)
        self.kept.add(request.key)

    def forget(self, keys) -> None:
        self.kept -= set(keys)


@pytest.fixture
def clock(monkeypatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: made.now)
    return made


def turns(name: str, count: int):
    """Joint turns of a protocol; the context's length says which call of the turn it is."""
    found = []
    for t in range(count):
        talk = PROTOCOLS[name].phases(dict.fromkeys(SECONDS, "seen"), TurnSettings("full", 1))
        told, times, turn = next(talk), dict.fromkeys(SECONDS, 0), []
        while told:
            requests = {a: GenerationRequest(a, (t, a), ("before", a), (0,) * times[a], 7, False) for a in told}
            turn.append({a: Said(m, requests[a], None, "") for a, m in told.items()})  # type: ignore[arg-type]
            times = {a: n + (a in told) for a, n in times.items()}
            try:
                told = talk.send(dict.fromkeys(told, ""))
            except StopIteration:
                told = {}
        found.append(turn)
    return found


def policies(clock: Clock):
    clock.device = torch.device("cpu")  # type: ignore[attr-defined]
    return {a: SimpleNamespace(host=clock) for a in SECONDS}


@pytest.mark.parametrize(
    ("protocol", "seconds"),
    [("parallel", max(SECONDS.values())), ("pipeline", sum(SECONDS.values())), ("discussion", 3.0 + 30.0)],
)
def test_the_slowest_of_those_who_answer_together_the_sum_of_those_who_wait(clock, protocol, seconds):
    measured = timing.response_time(turns(protocol, 6), policies(clock), 4)  # type: ignore[arg-type]
    assert (measured.seconds, measured.turns) == (pytest.approx(seconds), 4)
    assert measured.device.startswith("cpu, ")
    assert clock.kept == set()
    assert all(call.before is None for call in clock.calls)


@pytest.mark.parametrize(("there", "wanted", "measured"), [(10, 4, [0, 3, 6, 9]), (3, 4, [0, 1, 2]), (5, 1, [0])])
def test_the_turns_measured_are_spread_over_those_played(clock, there, wanted, measured):
    found = timing.response_time(turns("parallel", there), policies(clock), wanted)  # type: ignore[arg-type]
    # Each agent's first call is made once more, before the clock counts.
    timed = [call.key[1][0] for call in clock.calls[len(SECONDS) :: len(SECONDS)]]  # type: ignore[index]
    assert (found.turns, timed) == (len(measured), measured)
