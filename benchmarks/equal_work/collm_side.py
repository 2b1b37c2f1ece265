"""collm's side, run by its own interpreter: its public trainer on the task; prints one JSON object.

    .venv/bin/python collm_side.py CHECKPOINT METHOD EPISODES SAMPLES_PER_STEP UPDATES WARM_UP

SAMPLES_PER_STEP joint transitions go into one optimizer step (0 = all of an update).
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pettingzoo import ParallelEnv
from torch.optim.optimizer import register_optimizer_step_post_hook

sys.path.insert(0, str(Path(__file__).parent.parent))

from collm.config.load import config_from
from collm.models.generation import Answer
from collm.rollout.asking import RolloutCost
from collm.training.display import Display
from collm.training.trainer import Trainer
from collm.types import TaskRow
from equal_work import task
from equal_work.probe import Clock, resident_mb

NAMES = [f"agent_{i}" for i in range(task.AGENTS)]
CONTEXT_WINDOW = 2048


class BuildEnv(ParallelEnv[str, str, str]):
    """The task as an environment."""

    def __init__(self, clock: Clock) -> None:
        self.metadata = {"name": "equal_work_v0"}
        self.possible_agents = list(NAMES)
        self.agents: list[str] = []
        self._clock = clock
        self._target, self._turn = "", 0

    def __deepcopy__(self, memo: dict[int, Any]) -> BuildEnv:
        twin = BuildEnv(self._clock)
        twin.agents, twin._target, twin._turn = list(self.agents), self._target, self._turn
        return twin

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, str], dict[str, Any]]:
        self._target, self._turn, self.agents = (options or {})["task"]["word"], 0, list(NAMES)
        return {name: task.first_prompt(self._target, i) for i, name in enumerate(NAMES)}, {name: {} for name in NAMES}

    def step(self, actions: dict[str, str]) -> tuple[dict[str, str], dict[str, float], dict[str, bool], dict[str, bool], dict[str, Any]]:
        self._clock.step()
        texts = [actions[name] for name in NAMES]
        if any(len(text) != task.RESPONSE_TOKENS for text in texts):
            raise RuntimeError("a response reached the environment shortened: the work would not be equal")
        earned = task.reward(self._target, texts)
        self._turn += 1
        over = self._turn >= task.TURNS
        self.agents = [] if over else list(NAMES)
        return (
            dict.fromkeys(NAMES, task.feedback(self._target, self._turn, texts)),
            dict.fromkeys(NAMES, earned),
            dict.fromkeys(NAMES, False),
            dict.fromkeys(NAMES, over),
            {name: {} for name in NAMES},
        )

    def state(self) -> dict[str, Any]:  # type: ignore[override]
        return {"text": "", "features": np.zeros(0, dtype=np.float32)}


class Watch(Display):
    """Notes when updates begin, which is when the one before has ended with its logging."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.rows: list[Mapping[str, Any]] = []

    def evaluation(self, row: Mapping[str, Any]) -> None:
        """The evaluation before training is over; the first update begins. (The one after training closes nothing.)"""
        if not self.rows:
            self._clock.restart()

    def update(self, row: Mapping[str, Any]) -> None:
        self.rows.append(row)
        self._clock.begin()
        if row["response_tokens_mean"] != task.RESPONSE_TOKENS or any(n for key, n in row.items() if key.startswith("dropped_turns")):
            raise RuntimeError("a response ended early or a history was cut: the work would not be equal")


def count_tokens(clock: Clock) -> None:
    """Let the clock see what the rollout counts as answered."""
    count = RolloutCost.count

    def counted(cost: RolloutCost, answers: Iterable[Answer]) -> None:
        answers = list(answers)
        count(cost, answers)
        clock.answered(sum(len(request.context_ids) for request, _ in answers), sum(len(given.response_ids) for _, given in answers))

    RolloutCost.count = counted  # type: ignore[method-assign]


def make_config(checkpoint: str, method: str, episodes: int, samples_per_step: int, updates: int) -> Any:
    """What comlrl_side sets, in collm's words."""
    model = {"model": checkpoint, "optimizer": {"learning_rate": 5e-6}}
    algorithm: dict[str, Any] = {"discount": 0.9, "minibatch": samples_per_step or None}
    return config_from(
        {
            "method": method,
            "history": "full",
            "context_window": CONTEXT_WINDOW,
            "task": {"name": "custom", "env": "equal_work.collm_side:BuildEnv"},
            "agents": [{**model, "max_new_tokens": task.RESPONSE_TOKENS}] * task.AGENTS,
            "critic": {} if method == "magrpo" else {**model, "global_info": "none", "context_window": CONTEXT_WINDOW},
            "algorithm": algorithm | ({"advantage_normalization": "off"} if method == "magrpo" else {}),
            **({"monte_carlo": {"samples": 2, "divide_by_std": True}} if method == "magrpo" else {}),
            "training": {
                "updates": updates,
                "episodes_per_update": episodes,
                "episodes_in_flight": episodes,
                "checkpoint_every": updates,
            },
            "evaluation": {"every": 0, "sampled_episodes": 1, "bootstrap": 100},
            "logging": {"tensorboard": True},
        }
    )


def main() -> None:
    checkpoint, method, episodes, per_step, updates, warm_up = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
    clock = Clock()
    rows: list[TaskRow | None] = [{"word": task.word(i)} for i in range(episodes * updates)]
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            make_config(checkpoint, method, episodes, per_step, updates),
            Path(folder) / "run",
            env=lambda: BuildEnv(clock),
            rows=(rows, rows[:1]),
            display=Watch(clock),
        )
        resting = resident_mb()
        count_tokens(clock)
        register_optimizer_step_post_hook(clock.optimizer_stepped)
        trainer.run()
    print(json.dumps(clock.report(warm_up) | {"resting_mb": resting}))


if __name__ == "__main__":
    main()
