"""Decentralized execution: every agent acts on its own history only, all live nodes of all rollouts together.

A rollout is a chain of joint actions, or a K-ary tree of them (method.md section 3). By default conversations come and go
(`filling.py`). Where agents hear one another within a turn, or learn between turns, all go in lockstep: one generate call per
host and turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import nullcontext

from collm.envs.base import TextEnv
from collm.models.team import Policy
from collm.rollout.asking import Answers, RolloutCost, ask, hosts_of, requests_of
from collm.rollout.branch import Branch, EpisodePlan, RolloutSettings, open_root
from collm.rollout.filling import Filling
from collm.rollout.playing import joints_of, played
from collm.rollout.stepping import Stepper
from collm.types import Episode

Answerer = Callable[[Sequence[Branch], Mapping[str, Policy], RolloutSettings, Executor, RolloutCost], Answers]
"""Has every agent answer at every live node."""


def collect(
    plans: Sequence[EpisodePlan],
    make_env: Callable[[], TextEnv],
    policies: Mapping[str, Policy],
    settings: RolloutSettings,
    executor: Executor,
    on_turn: Callable[[], None],
    after_turn: Callable[[Sequence[Episode]], None] | None = None,
    answer: Answerer | None = None,
    stepper: Stepper | None = None,
) -> tuple[list[Episode], RolloutCost]:
    """Play the planned episodes and return them in order of the plans.

    `on_turn` is called between turns and may raise to stop the rollout; `after_turn` gets the batch's episodes after
    each turn, to learn from them while they are being played. `answer` may let agents hear one another within a turn; by
    default they are `decentralized`. `stepper` steps the environments, by default one of this rollout's own. Raises EnvContractError
    for an environment that breaks its contract and ContextOverflowError for a prompt that does not fit; both name the episode.
    """
    cost = RolloutCost()
    with nullcontext(stepper) if stepper is not None else Stepper() as steps:
        if after_turn is None and answer is None:
            return Filling(plans, make_env, policies, settings, executor, steps, cost).play(on_turn), cost
        episodes: list[Episode] = []
        for start in range(0, len(plans), settings.in_flight):
            live = [open_root(plan, make_env(), policies, settings) for plan in plans[start : start + settings.in_flight]]
            episodes += [branch.episode for branch in live]
            _play_in_step(live, answer or decentralized, policies, settings, executor, steps, cost, on_turn, after_turn)
    return episodes, cost


def _play_in_step(
    live: list[Branch],
    answer: Answerer,
    policies: Mapping[str, Policy],
    settings: RolloutSettings,
    executor: Executor,
    stepper: Stepper,
    cost: RolloutCost,
    on_turn: Callable[[], None],
    after_turn: Callable[[Sequence[Episode]], None] | None,
) -> None:
    """Play a batch of episodes to their ends, all in the same turn."""
    batch = [branch.episode for branch in live]
    stale: list[Hashable] = []
    while live:
        on_turn()
        answers = answer(live, policies, settings, executor, cost)
        live = _play(live, answers, policies, settings, stepper, cost)
        for host in hosts_of(policies):
            host.forget(stale)
        stale = list(answers)
        if after_turn is not None:
            after_turn(batch)
    for host in hosts_of(policies):
        host.forget(stale)


def decentralized(
    live: Sequence[Branch], policies: Mapping[str, Policy], settings: RolloutSettings, executor: Executor, cost: RolloutCost
) -> Answers:
    """Every agent answers at every live node from its own history, all at once."""
    return ask([r for branch in live for r in requests_of(branch, policies, settings)], policies, executor, cost)


def _play(
    live: Sequence[Branch],
    answers: Answers,
    policies: Mapping[str, Policy],
    settings: RolloutSettings,
    stepper: Stepper,
    cost: RolloutCost,
) -> list[Branch]:
    """Step every joint action of every live node; the nodes they lead to."""
    begun = time.perf_counter()
    joints = joints_of(live, answers, policies, settings)
    outcomes = stepper.submit(joints, settings.keep_cut)
    children = [played(joint, outcome.result(), settings) for joint, outcome in zip(joints, outcomes, strict=True)]
    cost.reward_seconds += time.perf_counter() - begun
    return [child for child in children if child is not None]
