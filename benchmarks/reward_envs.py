"""Environments whose rewards take time, for `reward_workers.py`: a module of their own, so that worker processes find them."""

from __future__ import annotations

import time
from typing import Any

from bench_tools import FixedEnv

Stepped = tuple[dict[str, str], dict[str, float], dict[str, bool], dict[str, bool], dict[str, Any]]


class _SlowEnv(FixedEnv):
    def __init__(self, n: int, turns: int, seconds: float) -> None:
        super().__init__(n, turns)
        self._seconds = seconds


class WaitingEnv(_SlowEnv):
    """Waits for something outside this process, as for a server or a sandbox."""

    def step(self, actions: dict[str, str]) -> Stepped:
        time.sleep(self._seconds)
        return super().step(actions)


class ConcurrentEnv(WaitingEnv):
    concurrent_steps = True


class BusyEnv(_SlowEnv):
    """Keeps Python busy, as a parser or a search does: for so much processor time, however many want the processor."""

    worker_steps = True

    def step(self, actions: dict[str, str]) -> Stepped:
        begun = time.thread_time()
        while time.thread_time() - begun < self._seconds:
            sum(range(1000))
        return super().step(actions)
