"""One branch of a rollout: an environment at a node, with every agent's history up to there."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from collm.envs.base import Reseedable, TextEnv
from collm.envs.check import check_observations, global_info
from collm.models.chat import TokenHistory
from collm.models.seeds import derive_seed
from collm.models.team import Policy
from collm.rollout.outcome import Outcome, placed, step_env
from collm.types import Episode, GlobalInfo, JointTransition, TaskRow, Turn, Upcoming


@dataclass(frozen=True, slots=True)
class EpisodePlan:
    """Which episode to play: its id, task row and seed."""

    id: str
    task: TaskRow | None
    seed: int


@dataclass(frozen=True, slots=True)
class TreeShape:
    """How many responses each agent samples at a node (K), how they are joined, and whether every node plays a greedy baseline."""

    samples: int = 1
    joint_mode: Literal["aligned", "crossed"] = "aligned"
    greedy_baseline: bool = False

    @property
    def is_chain(self) -> bool:
        """One joint action per turn."""
        return self.samples == 1 and not self.greedy_baseline


@dataclass(frozen=True, slots=True)
class RolloutSettings:
    """How to play: history mode, context window C, greedy or sampled, the tree's shape, and the episodes in one batch."""

    history: Literal["full", "last"]
    context_window: int
    greedy: bool
    update: int
    """The update whose rollout this is, stamped on episodes."""
    in_flight: int
    tree: TreeShape = TreeShape()
    keep_cut: bool = False
    """Keep what stands upcoming after a truncated episode, to bootstrap from."""
    stamp: Callable[[], tuple[int, int]] = lambda: (0, 0)
    """The learner's updates and policy steps so far, stamped on joint actions."""


@dataclass(slots=True)
class Branch:
    """A node of the rollout that is to be played."""

    episode: Episode
    node: int
    """Index of the joint action that led here; -1 at the root."""
    turn: int
    env: TextEnv
    histories: dict[str, TokenHistory]
    upcoming: Upcoming
    greedy: bool
    """The continuation of a greedy baseline: one joint action, greedily."""

    def joint_actions(self, agents: Sequence[str], shape: TreeShape) -> list[tuple[dict[str, int], bool]]:
        """(which of its responses each agent plays, whether greedily) of every joint action of this node."""
        if self.greedy:
            return [({}, True)]
        if shape.samples == 1:
            sampled: list[dict[str, int]] = [{}]
        elif shape.joint_mode == "aligned":
            sampled = [dict.fromkeys(agents, k) for k in range(shape.samples)]
        else:
            sampled = [dict(zip(agents, ks, strict=True)) for ks in itertools.product(range(shape.samples), repeat=len(agents))]
        return [(picks, False) for picks in sampled] + ([({}, True)] if shape.greedy_baseline else [])


def open_root(plan: EpisodePlan, env: TextEnv, policies: Mapping[str, Policy], settings: RolloutSettings) -> Branch:
    """Reset the environment for a planned episode. Raises EnvContractError and ContextOverflowError naming the episode."""
    histories = {
        name: TokenHistory(f"{name}, episode {plan.id}", p.chat, settings.history, settings.context_window, p.config.max_new_tokens)
        for name, p in policies.items()
    }
    with placed(f"episode {plan.id}", "reset"):
        observations, _ = env.reset(seed=plan.seed % 2**31, options={"task": plan.task})
        seen, info = check_observations(observations, list(policies)), global_info(env.state())
    upcoming = look(seen, info, histories)
    episode = Episode(plan.id, plan.task, plan.seed, settings.update, [], upcoming if settings.tree.is_chain else None)
    return Branch(episode, -1, 0, env, histories, upcoming, greedy=False)


def look(seen: dict[str, str], info: GlobalInfo, histories: Mapping[str, TokenHistory]) -> Upcoming:
    """Append what the agents see to their histories. Raises ContextOverflowError naming agent and episode."""
    return Upcoming(seen, {name: history.observe(seen[name]) for name, history in histories.items()}, info)


def fork(branch: Branch, count: int) -> list[tuple[TextEnv, dict[str, TokenHistory]]]:
    """The branch's environment and histories, `count` times: itself first, then copies with chance of their own."""
    forks = [(branch.env, branch.histories)]
    for c in range(1, count):
        env = copy.deepcopy(branch.env)
        if isinstance(env, Reseedable):
            env.reseed(derive_seed(branch.episode.seed, "branch", branch.node, c) % 2**31)
        forks.append((env, {name: history.fork() for name, history in branch.histories.items()}))
    return forks


@dataclass(frozen=True, slots=True)
class Joint:
    """One joint action about to be played at a branch, on an environment and histories of its own."""

    branch: Branch
    env: TextEnv
    histories: dict[str, TokenHistory]
    turns: dict[str, Turn]
    picks: dict[str, int]
    greedy: bool

    @property
    def where(self) -> str:
        """Where in the run it is played."""
        return f"episode {self.branch.episode.id}, turn {self.branch.turn}"

    @property
    def texts(self) -> dict[str, str]:
        """What the environment is given."""
        return {name: turn.text for name, turn in self.turns.items()}


def act(joint: Joint, keep_cut: bool) -> Outcome:
    """Step the environment here and now. Errors name episode and turn."""
    with placed(joint.where, "step"):
        return step_env(joint.env, joint.texts, keep_cut)


def record(joint: Joint, outcome: Outcome, settings: RolloutSettings) -> Branch | None:
    """Append a joint action that was played to its episode; the branch it leads to, or None where it ends the episode."""
    branch, histories = joint.branch, joint.histories
    episode, index = branch.episode, len(branch.episode.transitions)
    update, policy_version = settings.stamp()
    for name, turn in joint.turns.items():
        histories[name].respond(turn.response_ids)
    upcoming = look(*outcome.following, histories) if outcome.following is not None else None
    episode.transitions.append(
        JointTransition(
            turn=branch.turn,
            turns=joint.turns,
            info=branch.upcoming.info,
            reward=outcome.reward,
            terminated=outcome.terminated,
            truncated=outcome.truncated,
            metrics=outcome.metrics,
            details=outcome.details,
            parent=None if branch.node < 0 else branch.node,
            picks=joint.picks,
            greedy=joint.greedy,
            update=update,
            policy_version=policy_version,
        )
    )
    if settings.tree.is_chain:
        episode.upcoming = upcoming
    if outcome.terminated or outcome.truncated or upcoming is None:
        return None
    return Branch(episode, index, branch.turn + 1, outcome.env, histories, upcoming, joint.greedy)
