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

    def optimizer_steps(self, method: str) -> int:
        """collm's per member and update."""
        joint = self.episodes * task.tree_steps(samples_of(method))
        return math.ceil(joint / (self.per_step or joint))


def samples_of(method: str) -> int:
    """Joint actions per node."""
    return 2 if method == "magrpo" else 1


def plan(method: str, schedule: str, vocabulary: int, equal_steps: bool = False, quick: bool = False) -> Plan:
    """What is timed.

    comlrl updates turn by turn: a buffer of samples of all four turns takes four optimizer steps or more, where collm takes
    one. With `equal_steps` collm takes as many.
    """
    tree = method == "magrpo"
    if schedule == "batched":
        found = Plan(8, 0, 2, 1, 120, 120, 8) if tree else Plan(32, 0, 2, 1, 128, 128, 32)
        steps = 60 if tree else 32
    else:
        # A buffer of 4 nodes is 8 joint actions of a tree that has been played to its end: collm's minibatch.
        found = Plan(1, 8, 4, 1, 4, 4, 4) if tree else Plan(1, 0, 16, 4, 4, 4, 12)
        steps = 3 if tree else 1
    if vocabulary >= BIG:
        found = _shortened(found, tree, schedule)
    if equal_steps:
        found = replace(found, per_step=steps)
    if quick:
        found = replace(found, episodes=min(found.episodes, 2), updates=1, warm_up=0, rollouts=1)
    return found


def _shortened(found: Plan, tree: bool, schedule: str) -> Plan:
    """comlrl's loss keeps the logits of every sample of an optimizer step at once, over 1 GB each; four fit into any machine's memory.

    What a sample costs it does not depend on the buffer, so that a short one is timed. MAGRPO's loss goes sample by sample.
    """
    if schedule == "batched":
        return replace(found, updates=1, buffer=15 if tree else 16, batch=15 if tree else 4, rollouts=1 if tree else 4)
    return replace(found, updates=2 if tree else 6, warm_up=1, rollouts=1 if tree else 3)
