"""Learning while episodes are being played: TD errors need no episode end (method.md section 5, online mode)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from collm.models.optim import Progress
from collm.training.buffer import Stored
from collm.training.learner import Learner
from collm.types import Episode


class OnlineLearning:
    """Hands new joint transitions to the learner after each turn, and updates after each turn or after every n of them."""

    def __init__(self, learner: Learner, every: int | None) -> None:
        self._learner = learner
        self._every = every
        self.waiting = 0
        """Joint transitions stored since the last update (`every` n only)."""
        self.waiting_before = 0
        """The same when the present rollout began: what a checkpoint between rollouts holds."""
        self._taken: dict[int, int] = {}
        self.score_seconds = 0.0
        self.learned: list[dict[str, float]] = []

    def begin(self) -> None:
        """A new rollout."""
        self._taken, self.score_seconds, self.learned = {}, 0.0, []
        self.waiting_before = self.waiting

    def end(self) -> None:
        """The rollout is over."""
        self.waiting_before = self.waiting

    def resume(self, waiting: int) -> None:
        """Go on from a checkpoint."""
        self.waiting = self.waiting_before = waiting

    def after_turn(self, episodes: Sequence[Episode], at: Progress, check: Callable[[], None]) -> None:
        """Store what these episodes gained this turn and update if it is time; `check` may raise to stop before an update."""
        new = [Stored(e, t) for e in episodes for t in range(self._taken.get(id(e), 0), len(e.transitions))]
        self._taken |= {id(e): len(e.transitions) for e in episodes}
        self.score_seconds += self._learner.store(new)
        self.waiting += len(new)
        if self._every is None or self.waiting >= self._every:
            check()
            # After each turn the means are over all episodes of the batch, those that have ended included.
            known = {id(e) for e in self._learner.buffer.episodes()} | ({id(e) for e in episodes} if self._every is None else set())
            self.learned.append(self._learner.update(at, len(known)))
            self.waiting = 0
