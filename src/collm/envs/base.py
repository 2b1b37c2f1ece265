"""The contract between an environment and the rest of collm.

An environment is a PettingZoo `ParallelEnv` whose observations and actions are text:

- `reset(seed=..., options={"task": row})` returns one observation (the prompt) per agent; `row` is None where the run
  has no task data.
- `step({agent: response_text})` returns observations, rewards, terminations, truncations and infos. The reward is one
  shared scalar, repeated for every agent. `terminations` say the task is over (solved or unrecoverable), `truncations`
  that the turn limit was reached; both are joint: true for all agents or none. `infos[agent]["metrics"]` may hold a
  dict of numbers (the same for every agent), which is logged and averaged; `infos[agent]["details"]` may hold JSON-ready
  details for people (what was built, which tests failed), which are written to episodes.jsonl.
- `state()` returns m_t as `{"text": str, "features": 1-d float array}`.
- It is deep-copyable, picklable and deterministic given the seed.

An environment of your own needs nothing from this package: any `ParallelEnv` that behaves so will do.
"""

from __future__ import annotations

from typing import Any, Protocol, TypedDict, runtime_checkable

import numpy as np
from gymnasium import spaces


class StateDict(TypedDict):
    """m_t, the global information a critic may read."""

    text: str
    features: np.ndarray


@runtime_checkable
class TextEnv(Protocol):
    """What the rollout calls; PettingZoo's `ParallelEnv` with text in and out."""

    possible_agents: list[str]
    agents: list[str]

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, str], dict[str, Any]]: ...

    def step(
        self, actions: dict[str, str]
    ) -> tuple[dict[str, str], dict[str, float], dict[str, bool], dict[str, bool], dict[str, Any]]: ...

    def state(self) -> Any: ...

    def close(self) -> None: ...


@runtime_checkable
class Reseedable(Protocol):
    """What an environment whose steps are random may add, so that the branches of a rollout tree get chance of their own.

    Without it the copies of an environment go on with equal random streams.
    """

    def reseed(self, seed: int) -> None:
        """Draw from now on as this seed says; the state stays."""
        ...


@runtime_checkable
class ConcurrentSteps(Protocol):
    """What an environment may add whose steps wait for something outside this process (a sandbox, a server).

    Where `concurrent_steps` is true, different copies are stepped at the same time, each in a thread, while the models go on
    generating.
    """

    concurrent_steps: bool


@runtime_checkable
class WorkerSteps(Protocol):
    """What an environment may add whose steps take long because Python is busy in them (scoring by a parser, a search).

    Where `worker_steps` is true, copies are stepped in processes of their own while the models go on generating: an
    environment is pickled, sent, stepped and sent back. Its module has to be importable there. Where it is false it is never
    sent, whatever `training.env_workers` says.
    """

    worker_steps: bool


TEXT_SPACE_CHARSET = frozenset(chr(c) for c in [9, 10, *range(32, 127)])


def text_space(max_length: int = 65536) -> spaces.Text:
    """A gymnasium space of printable ASCII text, tab and newline, for observations and actions."""
    return spaces.Text(min_length=0, max_length=max_length, charset=TEXT_SPACE_CHARSET)
