"""Records shared by every layer.

Symbols follow the paper (arXiv 2601.21972): agent i, turn t, private history h_{i,t}, joint history h_t, macro-action
a_{i,t}, global information m_t. Tensor names elsewhere carry their dimensions as suffixes: `_B` batch, `_N` agents,
`_H` turns, `_K` branches, `_T` tokens, `_V` vocabulary, `_D` hidden.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

TaskRow = Mapping[str, Any]
"""One task of a data set, as it is handed to `env.reset(options={"task": row})`."""


class StopReason(StrEnum):
    """Why a response ended."""

    EOS = "eos"
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class Turn:
    """One agent's part of one turn: what it saw and the macro-action it sampled.

    `context_ids` is the whole token history h_{i,t} fed to the model; `response_ids` are the tokens as sampled, the
    closing EOS included when there was one. Neither is ever re-derived from text.
    """

    observation: str
    context_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    text: str
    stop: StopReason
    behaviour_logprob: float
    """log pi(a|h) in nats, summed over the response, under the (possibly truncated) sampling distribution."""
    kept_mass: float
    """Mean probability mass that top-k / top-p left in the support, over the response's positions (1 = nothing cut)."""
    dropped_turns: int
    """How many of the oldest turns no longer fit into the context window."""


@dataclass(frozen=True, slots=True)
class GlobalInfo:
    """m_t: what training may know beyond the joint history, as text and as numbers of shape (F,)."""

    text: str
    features: np.ndarray


@dataclass(slots=True)
class JointTransition:
    """(h_t, m_t, a_t, r_t): one joint action. Its place in the rollout is `parent`."""

    turn: int
    turns: dict[str, Turn]
    info: GlobalInfo
    reward: float
    terminated: bool
    truncated: bool
    metrics: dict[str, float]
    parent: int | None = None
    """Index in `Episode.transitions` of the joint action that led to this one's node; None at the first turn."""
    picks: dict[str, int] = field(default_factory=dict)
    """Which of its K responses at the node each agent plays here; empty where it has only one."""
    greedy: bool = False
    """Part of a greedy baseline rollout: evaluated and counted, never trained on."""
    update: int = 0
    """How many updates the learner had made when it was sampled."""
    policy_version: int = 0
    """How many policy optimizer steps had been taken when it was sampled."""
    old_logprobs: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """log pi_old of each response token by teacher forcing; empty where nothing was updated since sampling (rho = 1)."""
    details: dict[str, Any] = field(default_factory=dict)
    """What the environment tells people of it (what was built, which tests failed), JSON-ready."""
    values: dict[str, float] = field(default_factory=dict)
    """Each critic's V(h_t, m_t) (or Q) as read by the first update that learned from it; empty before, and without critics."""
    advantages: dict[str, float] = field(default_factory=dict)
    """Each agent's advantage in that update as the method gives it, before normalisation and clipping. In a tree a response
    has one, at the first joint action that contains it."""

    @property
    def node(self) -> int:
        """The node of the rollout tree it was played at: siblings share it. -1 = the root."""
        return -1 if self.parent is None else self.parent

    def pick(self, agent: str) -> int:
        """Which of its node's responses `agent` plays here."""
        return self.picks.get(agent, 0)


@dataclass(frozen=True, slots=True)
class Upcoming:
    """What stands after a joint action that did not end the task: (h_{t+1}, m_{t+1}) before anybody answers."""

    observations: dict[str, str]
    contexts: dict[str, tuple[int, ...]]
    """Each agent's whole token history h_{i,t+1}."""
    info: GlobalInfo


@dataclass(slots=True)
class Episode:
    """One rollout: joint actions, each after the one that led to it.

    With K = 1 a chain, one joint action per turn. With K > 1 the joint actions of a K-ary tree: those with the same
    `parent` were sampled at one node, from the same joint history.
    """

    id: str
    task: TaskRow | None
    seed: int
    update: int
    """The update in whose rollout it was sampled."""
    transitions: list[JointTransition]
    upcoming: Upcoming | None = None
    """Where a chain stands now: set while it is still being played and after truncation, None once terminated."""

    @property
    def agents(self) -> list[str]:
        return list(self.transitions[0].turns)

    def children(self) -> dict[int, list[int]]:
        """Indices of the joint actions at each node, in order; node -1 is the root."""
        found: dict[int, list[int]] = {}
        for a, transition in enumerate(self.transitions):
            found.setdefault(transition.node, []).append(a)
        return found

    def path(self, index: int) -> list[int]:
        """Indices of the joint actions from the first turn to `index`."""
        found = [index]
        while (parent := self.transitions[found[-1]].parent) is not None:
            found.append(parent)
        return found[::-1]

    def leaves(self) -> list[int]:
        """Indices of the sampled joint actions after which nothing was played."""
        inner = {tr.node for tr in self.transitions if not tr.greedy}
        return [a for a, tr in enumerate(self.transitions) if not tr.greedy and a not in inner]

    def discounted_return(self, discount: float) -> float:
        """sum_t discount^t r_t of a chain; of a tree the mean over its samples at every node."""
        nodes = self.children()

        def mean_return(node: int) -> float:
            sampled = [a for a in nodes.get(node, []) if not self.transitions[a].greedy]
            returns = [self.transitions[a].reward + discount * mean_return(a) for a in sampled]
            return sum(returns) / len(returns) if returns else 0.0

        return mean_return(-1)
