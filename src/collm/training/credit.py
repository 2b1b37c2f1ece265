"""Who gets how much credit: from joint transitions (and critics' values) to advantages, weights and value targets.

Numbers are kept per (episode id, index of the joint transition). `weights` say what each sample counts in
sum_samples weight * gradient, which estimates E[ sum_t . ] per episode once it is divided by the number of episodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from collm.algorithms.advantages import clip, explained_variance, normalise
from collm.algorithms.method import ActorCriticMethod, MonteCarloMethod
from collm.algorithms.trees import agent_groups, joint_returns, node_weights
from collm.algorithms.turns import TurnEstimator, TurnValues
from collm.config.schema import AlgorithmConfig
from collm.training.buffer import Stored
from collm.types import Episode

Key = tuple[str, int]
Credit = dict[Key, float]
"""A number per (episode id, index of the joint transition)."""


@dataclass(slots=True)
class Credits:
    """What an update trains on. An agent's tables hold its samples: every joint transition of a chain, or one per response of a tree."""

    advantages: dict[str, Credit]
    weights: dict[str, Credit]
    raw: dict[str, Credit] = field(default_factory=dict)
    """Advantages as the method gives them, before normalisation and clipping."""
    targets: dict[str, Credit] = field(default_factory=dict)
    values: dict[str, Credit] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)


def turn_estimator(algorithm: AlgorithmConfig, kind: str) -> TurnEstimator:
    """How far the configured turns look ahead."""
    return TurnEstimator(algorithm.discount, algorithm.gae_lambda, algorithm.n_step, "q" if kind == "q" else "v")


def actor_critic_credits(
    method: ActorCriticMethod,
    algorithm: AlgorithmConfig,
    estimator: TurnEstimator,
    agents: Sequence[str],
    drawn: Sequence[Stored],
    values: Mapping[str, Mapping[str, tuple[int, TurnValues]]],
) -> Credits:
    """Credits of the drawn joint transitions.

    `values` has for every critic and episode id the first turn whose value was read, and the values from there on.
    """
    raw: dict[str, Credit] = {agent: {} for agent in agents}
    credits = Credits({}, {}, targets={critic: {} for critic in values}, values={critic: {} for critic in values})
    for episode in _episodes(drawn):
        first = {critic: table[episode.id][0] for critic, table in values.items()}
        start = next(iter(first.values()))
        turn_values = {critic: table[episode.id][1] for critic, table in values.items()}
        rewards_H = np.array([tr.reward for tr in episode.transitions[start:]])
        for agent, advantage_H in method.advantages(rewards_H, turn_values, agents, estimator).items():
            raw[agent] |= {(episode.id, start + t): float(a) for t, a in enumerate(advantage_H)}
        for critic, v in turn_values.items():
            target_H = estimator.targets(rewards_H, v)
            credits.targets[critic] |= {(episode.id, start + t): float(y) for t, y in enumerate(target_H)}
            credits.values[critic] |= {(episode.id, start + t): float(x) for t, x in enumerate(v.V_H)}
    for agent in agents:
        _finish(credits, algorithm, agent, drawn, raw[agent], dict.fromkeys(raw[agent], 1.0))
    for critic in values:
        v_B, y_B = (np.array([table[critic][s.key] for s in drawn]) for table in (credits.values, credits.targets))
        credits.metrics |= {
            f"value_mean/{critic}": float(v_B.mean()),
            f"explained_variance/{critic}": explained_variance(v_B, y_B),
            f"td_error/{critic}": float(np.abs(y_B - v_B).mean()),
        }
    return credits


def monte_carlo_credits(method: MonteCarloMethod, algorithm: AlgorithmConfig, agents: Sequence[str], drawn: Sequence[Stored]) -> Credits:
    """Credits of the responses in the drawn joint actions (method.md section 3).

    A response that several joint actions share (crossed) has the mean of their returns, and stands at the first of them.
    """
    credits = Credits({}, {})
    by_key = {s.key: s for s in drawn}
    for agent in agents:
        raw: Credit = {}
        weight: Credit = {}
        spreads: list[float] = []
        for episode in _episodes(drawn):
            G_A, nodes = joint_returns(episode, algorithm.discount), node_weights(episode)
            greedy = {tr.node: float(G_A[a]) for a, tr in enumerate(episode.transitions) if tr.greedy}
            for node, responses in agent_groups(episode, agent).items():
                G_K = np.array([G_A[actions].mean() for actions in responses])
                A_K = method.advantages(G_K, greedy.get(node))
                spreads.append(float(G_K.std()))
                for actions, advantage in zip(responses, A_K, strict=True):
                    key = (episode.id, actions[0])
                    if key in by_key:
                        raw[key] = float(advantage)
                        weight[key] = nodes[node] / len(responses)
        credits.metrics[f"group_std/{agent}"] = float(np.mean(spreads))
        _finish(credits, algorithm, agent, [s for s in drawn if s.key in raw], raw, weight)
    return credits


def _finish(credits: Credits, algorithm: AlgorithmConfig, agent: str, drawn: Sequence[Stored], raw: Credit, weight: Credit) -> None:
    """Normalise and clip one agent's advantages, note what that did, and weigh them by their turn."""
    credits.advantages[agent], credits.weights[agent], credits.raw[agent] = {}, {}, raw
    if not drawn:
        # A small draw from crossed joint actions may hold none of an agent's responses.
        return
    raw_B = np.array([raw[s.key] for s in drawn])
    normal_B, skipped = normalise(raw_B, [s.transition.turn for s in drawn], algorithm.advantage_normalization)
    clipped_B = clip(normal_B, algorithm.advantage_clip)
    credits.advantages[agent] = {s.key: float(a) * _turn_weight(algorithm, s) for s, a in zip(drawn, clipped_B, strict=True)}
    credits.weights[agent] = {s.key: weight[s.key] for s in drawn}
    credits.metrics |= {
        f"advantage_abs/{agent}": float(np.abs(raw_B).mean()),
        f"advantage_std/{agent}": float(clipped_B.std()),
        f"normalisation_skipped/{agent}": float(skipped),
        f"advantage_clipped/{agent}": float((clipped_B != normal_B).mean()),
    }


def _turn_weight(algorithm: AlgorithmConfig, stored: Stored) -> float:
    return algorithm.discount**stored.transition.turn if algorithm.turn_weight == "discounted" else 1.0


def _episodes(drawn: Sequence[Stored]) -> list[Episode]:
    return list({s.episode.id: s.episode for s in drawn}.values())
