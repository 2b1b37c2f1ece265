"""The metrics of one update (method.md section 7), one flat row of `metrics.jsonl`.

Fields that name times or memory differ from machine to machine; every other field is a function of the configuration.
"""

from __future__ import annotations

import resource
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch

from collm.config.schema import Config
from collm.rollout.asking import RolloutCost
from collm.training.learner import Learner
from collm.types import Episode, StopReason

MACHINE_FIELDS = ("seconds_", "tokens_per_second", "env_steps_per_second", "peak_memory_mb")
"""Beginnings of the fields that a repeated run need not reproduce."""


@dataclass(slots=True)
class Counters:
    """Totals since the beginning of the run."""

    updates: int = 0
    policy_steps: int = 0
    optimizer_steps: int = 0
    """Optimizer steps of any member: the critic's during its warm-up too."""
    episodes: int = 0
    env_steps: int = 0
    inference_calls: int = 0
    generated_tokens: int = 0
    dropped_turns: int = 0

    def advance(self, episodes: Sequence[Episode], cost: RolloutCost, learner: Learner) -> None:
        """Count one more update and its rollout. An env step is one joint action evaluated."""
        self.updates += 1
        self.policy_steps, self.optimizer_steps = learner.policy_steps, learner.steps
        self.episodes += len(episodes)
        self.env_steps += sum(len(e.transitions) for e in episodes)
        self.inference_calls += cost.inference_calls
        self.generated_tokens += cost.generated_tokens
        self.dropped_turns += sum(max(t.dropped_turns for tr in e.transitions for t in tr.turns.values()) for e in episodes)

    def state(self) -> dict[str, int]:
        return asdict(self)

    def load_state(self, state: Mapping[str, int]) -> None:
        for field in fields(self):
            setattr(self, field.name, state[field.name])


def update_metrics(
    config: Config,
    episodes: Sequence[Episode],
    cost: RolloutCost,
    counters: Counters,
    learned: Mapping[str, float],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """One row: counters, what the rollout brought, what the update did, and what it took."""
    transitions = [tr for e in episodes for tr in e.transitions if not tr.greedy]
    leaves = [e.transitions[a] for e in episodes for a in e.leaves()]
    # Crossed joint actions share responses; each counts once.
    turns = list({id(turn): turn for tr in transitions for turn in tr.turns.values()}.values())
    rewards = np.array([tr.reward for tr in transitions])
    horizon = max(tr.turn for tr in transitions) + 1
    lengths = np.array([len(t.response_ids) for t in turns])
    env_metrics = sorted({name for tr in transitions for name in tr.metrics})
    total = max(seconds["total"], 1e-9)
    return {
        "update": counters.updates,
        "env_steps": counters.env_steps,
        "episodes": counters.episodes,
        "inference_calls": counters.inference_calls,
        "generated_tokens": counters.generated_tokens,
        "policy_steps": counters.policy_steps,
        "return_mean": float(np.mean([e.discounted_return(1.0) for e in episodes])),
        "return_std": float(np.std([e.discounted_return(1.0) for e in episodes])),
        "discounted_return_mean": float(np.mean([e.discounted_return(config.algorithm.discount) for e in episodes])),
        "reward_mean": float(rewards.mean()),
        "reward_min": float(rewards.min()),
        "reward_max": float(rewards.max()),
        **{f"reward_turn_{t}": float(np.mean([tr.reward for tr in transitions if tr.turn == t])) for t in range(horizon)},
        **{f"env/{name}": float(np.mean([tr.metrics[name] for tr in transitions if name in tr.metrics])) for name in env_metrics},
        "response_tokens_mean": float(lengths.mean()),
        "response_tokens_max": int(lengths.max()),
        "cut_share": float(np.mean([t.stop is StopReason.LENGTH for t in turns])),
        "terminated_share": float(np.mean([tr.terminated for tr in leaves])),
        "kept_mass_mean": float(np.mean([t.kept_mass for t in turns])),
        "dropped_turns": counters.dropped_turns,
        **learned,
        **{f"seconds_{phase}": value for phase, value in seconds.items()},
        "tokens_per_second": cost.generated_tokens / max(cost.generate_seconds, 1e-9),
        "env_steps_per_second": sum(len(e.transitions) for e in episodes) / total,
        "peak_memory_mb": _peak_memory_mb(),
    }


def _peak_memory_mb() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
