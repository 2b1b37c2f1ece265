"""Returns and weights of the joint actions of a rollout tree. Pure functions on the records, no models.

Shapes: `_A` joint actions of one rollout, in order (a joint action comes after the one that led to it).
"""

from __future__ import annotations

import numpy as np

from collm.types import Episode


def joint_returns(episode: Episode, discount: float) -> np.ndarray:
    """Return of every joint action, (A,): r + gamma times the mean return at the node it led to, 0 where none was played.

    The greedy continuation of a node is no sample of it and stays out of the mean (method.md section 3); along a
    greedy rollout the return is the greedy one.
    """
    G_A = np.array([tr.reward for tr in episode.transitions], dtype=float)
    nodes = episode.children()
    for a in range(len(G_A) - 1, -1, -1):
        played = [c for c in nodes.get(a, []) if episode.transitions[c].greedy == episode.transitions[a].greedy]
        if played:
            G_A[a] += discount * G_A[played].mean()
    return G_A


def node_weights(episode: Episode) -> dict[int, float]:
    """How much each node counts: the root 1, a child its parent's weight over the joint actions sampled there.

    With K samples a node at depth t has weight 1 / K^t (crossed with n agents 1 / K^(n t)), so that every depth is a mean
    over the tree and not a sum.
    """
    weights = {-1: 1.0}
    nodes = episode.children()
    for a, transition in enumerate(episode.transitions):
        if not transition.greedy:
            siblings = sum(not episode.transitions[c].greedy for c in nodes[transition.node])
            weights[a] = weights[transition.node] / siblings
    return weights


def agent_groups(episode: Episode, agent: str) -> dict[int, list[list[int]]]:
    """For every node the agent's K responses, each as the indices of the joint actions that contain it.

    Aligned, each response is in one joint action; crossed, in K^(n-1).
    """
    groups: dict[int, list[list[int]]] = {}
    for node, actions in episode.children().items():
        by_pick: dict[int, list[int]] = {}
        for a in actions:
            if not episode.transitions[a].greedy:
                by_pick.setdefault(episode.transitions[a].pick(agent), []).append(a)
        if by_pick:
            groups[node] = [by_pick[k] for k in sorted(by_pick)]
    return groups
