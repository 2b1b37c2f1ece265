"""How much each side plays and when it updates."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from equal_work import task

METHODS = ("collm-cc", "collm-dc", "magrpo")
SCHEDULES = ("batched", "theirs")
BIG = 100_000
"""From this vocabulary on comlrl is timed over less, and keeps fewer graphs (see `plan`)."""


@dataclass(frozen=True)
class Plan:
    """One method on one schedule."""

    episodes: int
    """collm: episodes (trees) per update, all in flight."""
    per_step: int
    """collm: joint transitions per optimizer step; 0 = all of the update."""
    updates: int
    """collm: timed updates."""
    warm_up: int
    buffer: int
    """comlrl: samples per update. A sample is a response of each agent, for MAGRPO a node of the tree with all its responses."""
    batch: int
    """comlrl: samples per optimizer step at most; it never mixes turns in one."""
    rollouts: int
    """comlrl: timed episodes (trees)."""
    warm_rollouts: int = 1
    """comlrl: rollouts before, with an update of their own."""

    def optimizer_steps(self, method: str) -> int:
        """collm's per member and update."""
        joint = self.episodes * task.tree_steps(samples_of(method))
        return math.ceil(joint / (self.per_step or joint))


def samples_of(method: str) -> int:
    """Joint actions per node."""
    return 2 if method == "magrpo" else 1


def plan(method: str, schedule: str, vocabulary: int, *, equal_steps: bool = False, full_buffer: bool = False, quick: bool = False) -> Plan:
    """What is timed.

    comlrl plays one episode after the other, and what a sample costs it does not depend on the buffer but for the optimizer
    steps: on the batched schedule a quarter of the buffer is timed, unless `full_buffer` says to wait for all of it.
    comlrl updates turn by turn: a buffer of samples of all four turns takes four optimizer steps or more, where collm takes
    one. With `equal_steps` collm takes as many.
    """
    tree = method == "magrpo"
    if schedule == "batched":
        found = Plan(8, 0, 1, 1, 30, 30, 2) if tree else Plan(32, 0, 1, 1, 32, 32, 8)
        if full_buffer:
            found = replace(found, buffer=4 * found.buffer, batch=4 * found.batch, rollouts=4 * found.rollouts)
        steps = 60 if tree else 32
    else:
        # A buffer of 4 nodes is 8 joint actions of a tree that has been played to its end: collm's minibatch.
        found = Plan(1, 8, 4, 1, 4, 4, 4) if tree else Plan(1, 0, 10, 2, 4, 4, 8)
        steps = 3 if tree else 1
    if vocabulary >= BIG:
        found = _shortened(found, tree, schedule)
    if equal_steps:
        found = replace(found, per_step=steps)
    if quick:
        found = replace(found, episodes=min(found.episodes, 2), updates=1, warm_up=0, rollouts=1, warm_rollouts=0)
    return found


def _shortened(found: Plan, tree: bool, schedule: str) -> Plan:
    """comlrl's loss keeps the logits of every sample of an optimizer step at once, about 1 GB each; four fit into any machine's memory.

    MAGRPO's loss goes sample by sample. Passes take so long here that being cold is no matter where one rollout takes minutes.
    """
    if schedule == "batched":
        fewer = replace(found, warm_up=0, warm_rollouts=0)
        return replace(fewer, buffer=15, batch=15, rollouts=1) if tree else replace(fewer, buffer=16, batch=4, rollouts=4)
    fewer = replace(found, warm_up=1, updates=2 if tree else 6, rollouts=1 if tree else 3)
    return replace(fewer, warm_rollouts=0) if tree else fewer
