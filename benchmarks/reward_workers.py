"""How much of slow rewards is hidden behind generation: `python benchmarks/reward_workers.py [--rounds N] [--out FILE]`.

The same rollout of two agents with rewards that cost nothing, with rewards one after the other in between, and with rewards stepped
while the models go on: in threads where a reward waits for something (those of several episodes then wait at the same time), in
a worker process where it computes. Responses end by chance, so that episodes come apart. Alternating runs; every one must give the same
episodes. The last line of output is a JSON object.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from bench_tools import FixedEnv, alternate, machine, write_result
from reward_envs import BusyEnv, ConcurrentEnv, WaitingEnv
from scaling import Setting, config_of, team_of

from collm.envs.base import TextEnv
from collm.models.workers import host_workers
from collm.rollout.branch import EpisodePlan, RolloutSettings
from collm.rollout.collect import collect
from collm.rollout.stepping import Stepper
from collm.types import Episode

HERE = Path(__file__).parent
AGENTS, TURNS, EPISODES = 2, 4, 32
SECONDS = 0.02
STOPS = frozenset(range(8))
"""Of 259 tokens: a response has 32 on average."""


class Rollout:
    """A team, and the episodes that it plays in environments of one kind."""

    def __init__(self, folder: Path) -> None:
        setting = Setting(agents=AGENTS, turns=TURNS, episodes=EPISODES, response=96)
        self._team = team_of(setting, config_of(setting), folder)
        for name, policy in self._team.policies.items():
            member = policy.host.members[name]
            assert member.decode is not None
            member.decode = replace(member.decode, stop_ids=STOPS)
        self._executor = host_workers(len(self._team.hosts))
        self._played: list[list[str]] | None = None

    def play(self, name: str, make_env: Callable[[], TextEnv], stepper: Stepper) -> None:
        settings = RolloutSettings("full", 4096, greedy=False, update=0, in_flight=EPISODES)
        plans = [EpisodePlan(f"e{i}", None, 100 + i) for i in range(EPISODES)]
        episodes, _ = collect(plans, make_env, self._team.policies, settings, self._executor, lambda: None, stepper=stepper)
        found, self._played = texts(episodes), self._played or texts(episodes)
        if found != self._played:
            raise RuntimeError(f"{name}: other episodes than before")

    def close(self) -> None:
        self._executor.shutdown()


def texts(episodes: list[Episode]) -> list[list[str]]:
    return [[turn.text for tr in e.transitions for turn in tr.turns.values()] for e in episodes]


def ways(inline: Stepper, threads: Stepper, one_worker: Stepper) -> dict[str, tuple[Callable[[], TextEnv], Stepper]]:
    """What is played, and how it is stepped."""
    return {
        "no_cost": (lambda: FixedEnv(AGENTS, TURNS), inline),
        "waiting_one_after_the_other": (lambda: WaitingEnv(AGENTS, TURNS, SECONDS), inline),
        "waiting_in_threads": (lambda: ConcurrentEnv(AGENTS, TURNS, SECONDS), threads),
        "busy_one_after_the_other": (lambda: BusyEnv(AGENTS, TURNS, SECONDS), inline),
        "busy_in_one_worker": (lambda: BusyEnv(AGENTS, TURNS, SECONDS), one_worker),
    }


def measure(rounds: int) -> dict[str, Any]:
    """Median wall seconds of each way. Raises RuntimeError where one gave other episodes."""
    with ExitStack() as stack:
        rollout = Rollout(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        stack.callback(rollout.close)
        played = ways(*(stack.enter_context(Stepper(workers)) for workers in (0, None, 1)))
        spent = alternate({name: partial(rollout.play, name, *way) for name, way in played.items()}, rounds)
    wall = {name: statistics.median(s.wall for s in runs) for name, runs in spent.items()}
    kinds = {"waiting": "waiting_in_threads", "busy": "busy_in_one_worker"}
    added = {name: s - wall["no_cost"] for name, s in wall.items()}
    return {
        "agents": AGENTS,
        "turns": TURNS,
        "episodes": EPISODES,
        "rounds": rounds,
        "seconds_per_reward": SECONDS,
        "reward_seconds_in_all": SECONDS * EPISODES * TURNS,
        "rollout_seconds": {name: round(s, 3) for name, s in wall.items()},
        "share_of_added_time_saved": {k: round(1 - added[way] / added[f"{k}_one_after_the_other"], 3) for k, way in kinds.items()},
        "rollout_times_as_fast": {k: round(wall[f"{k}_one_after_the_other"] / wall[way], 2) for k, way in kinds.items()},
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5, help="counted runs of each way")
    arguments.add_argument("--out", type=Path, default=HERE / "results" / "reward_workers.json")
    chosen = arguments.parse_args()
    about = machine()
    write_result(measure(chosen.rounds), about, chosen.out)


if __name__ == "__main__":
    main()
