"""The replay buffer B of joint transitions."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from collm.errors import ConfigError
from collm.types import Episode, JointTransition


@dataclass(frozen=True, slots=True)
class Stored:
    """A joint transition with the episode it belongs to (its history is the episode's path to it)."""

    episode: Episode
    index: int
    """Its place in `episode.transitions`; of a chain the turn."""

    @property
    def transition(self) -> JointTransition:
        return self.episode.transitions[self.index]

    @property
    def key(self) -> tuple[str, int]:
        return self.episode.id, self.index


class ReplayBuffer:
    """First in, first out; holds `capacity` joint transitions, usable while at most `max_policy_lag` updates old."""

    def __init__(self, capacity: int, max_policy_lag: int) -> None:
        self._stored: deque[Stored] = deque(maxlen=capacity)
        self._max_policy_lag = max_policy_lag

    def __len__(self) -> int:
        return len(self._stored)

    def add(self, stored: Sequence[Stored]) -> None:
        """Store joint transitions; past the capacity the oldest leave.

        Raises ConfigError where one rollout alone is more than the capacity: its own first turns would be the ones to leave.
        """
        if len(stored) > (self._stored.maxlen or 0):
            raise ConfigError(
                f"replay.capacity={self._stored.maxlen} does not hold the {len(stored)} joint transitions of one rollout; "
                f"set replay.capacity={len(stored)} or more"
            )
        self._stored.extend(stored)

    def expire(self, update: int) -> None:
        """Drop what will be too old for the learner's 0-based `update`; with a lag of 0 that is everything sampled before it."""
        kept = [s for s in self._stored if update - s.transition.update <= self._max_policy_lag]
        self._stored.clear()
        self._stored.extend(kept)

    def draw(self, count: int | None, sampling: Literal["uniform", "newest"], seed: int) -> list[Stored]:
        """`count` transitions without replacement (all where None), in random order."""
        stored = list(self._stored)
        rng = np.random.default_rng(seed)
        if count is not None and count < len(stored) and sampling == "newest":
            stored = stored[-count:]
        order = rng.permutation(len(stored))
        return [stored[i] for i in order[:count]]

    def episodes(self) -> list[Episode]:
        """The episodes that still have a transition stored, oldest first."""
        return list({id(s.episode): s.episode for s in self._stored}.values())

    def state(self, update: int) -> dict[str, list]:
        """Plain data for a checkpoint before 0-based `update`: the episodes sampled before it, and which of their turns are stored."""
        episodes = [e for e in self.episodes() if e.update < update]
        index = {id(e): i for i, e in enumerate(episodes)}
        return {"episodes": episodes, "stored": [(index[id(s.episode)], s.index) for s in self._stored if id(s.episode) in index]}

    def load_state(self, state: dict[str, list]) -> None:
        self._stored.clear()
        self._stored.extend(Stored(state["episodes"][i], t) for i, t in state["stored"])
