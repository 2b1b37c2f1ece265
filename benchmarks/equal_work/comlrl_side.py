"""comlrl's side, run by its own interpreter: one of its public trainers on the task; prints one JSON object.

<comlrl venv>/bin/python comlrl_side.py CHECKPOINT METHOD BUFFER ROLLOUTS WARM_UP
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from comlrl.trainers.actor_critic import IACConfig, IACTrainer, MAACConfig, MAACTrainer
from comlrl.trainers.reinforce import MAGRPOConfig, MAGRPOTrainer
from transformers import AutoModelForCausalLM, AutoTokenizer

from equal_work import task
from equal_work.probe import Clock, forget_peak, resident_mb, steps_of_tree

QUIET = {"config_sections": {"output": {"verbose": False}}}


class Tasks(torch.utils.data.Dataset):
    """The episodes, one string each. comlrl fetches one when it is about to play it."""

    def __init__(self, count: int, clock: Clock) -> None:
        self._count, self._clock = count, clock
        self.column_names = ["prompt"]

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> dict[str, Any]:
        self._clock.begin()
        return {"prompt": task.word(number)}


class Game:
    """Formatters, reward function and external transition for comlrl."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def formatter(self, agent: int) -> Any:
        def prompt(item: dict[str, Any], external_prompts: str | None = None) -> str:
            return external_prompts if external_prompts is not None else task.first_prompt(item["prompt"], agent)

        return prompt

    def reward(self, texts_0: Sequence[str], texts_1: Sequence[str], *, batch_items: Sequence[dict[str, Any]]) -> list[float]:
        self._clock.step()
        return [task.reward(batch_items[0]["prompt"], [a, b]) for a, b in zip(texts_0, texts_1, strict=True)]

    def transition(self, prompt: str, agent_completions: Sequence[str], num_agents: int, **history: Any) -> list[str]:
        turn = len(history["response_history_per_agent"][0])
        earned = task.reward(prompt, agent_completions)
        return [task.next_prompt(prompt, agent, turn, earned) for agent in range(num_agents)]


def make_trainer(method: str, checkpoint: str, buffer: int, data: Tasks, game: Game) -> Any:
    """The trainer of a method, as its documentation builds it: every model loaded from the checkpoint."""
    common = {
        "num_train_epochs": 1,
        "num_agents": task.AGENTS,
        "num_turns": task.TURNS,
        "max_new_tokens": task.RESPONSE_TOKENS,
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": None,
        "discount": 0.9,
        "early_termination_threshold": None,
        "external_prompt_passthrough": True,
        "eval_interval": 0,
        "rollout_buffer_size": buffer,
    }
    models = [AutoModelForCausalLM.from_pretrained(checkpoint) for _ in range(task.AGENTS)]
    tokenizers = [AutoTokenizer.from_pretrained(checkpoint) for _ in range(task.AGENTS)]
    parts = {
        "agents": models,
        "tokenizer": tokenizers,
        "reward_func": game.reward,
        "formatters": [game.formatter(agent) for agent in range(task.AGENTS)],
        "external_transition": game.transition,
        "train_dataset": data,
        "wandb_config": None,
    }
    if method == "magrpo":
        trainer = MAGRPOTrainer(**parts, args=MAGRPOConfig(num_generations=2, **common))
        trainer.verbose = False
        return trainer
    critics = [AutoModelForCausalLM.from_pretrained(checkpoint) for _ in range(1 if method == "collm-cc" else task.AGENTS)]
    trainer_class, config = (MAACTrainer, MAACConfig) if method == "collm-cc" else (IACTrainer, IACConfig)
    trainer = trainer_class(**parts, critics=critics, args=config(num_generations=1, **common))
    trainer.verbose = False
    return trainer


def main() -> None:
    checkpoint, method, buffer, rollouts, warm_up = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
    random.seed(0)
    torch.manual_seed(0)
    clock = Clock()
    game = Game(clock)
    trainer = make_trainer(method, checkpoint, buffer, Tasks(rollouts, clock), game)
    resting = resident_mb()
    forget_peak()
    trainer.train()
    clock.begin()
    samples = 2 if method == "magrpo" else 1
    steps = steps_of_tree(samples, task.TURNS) if samples > 1 else task.TURNS
    print(json.dumps(clock.report(warm_up, steps, steps * task.AGENTS * task.RESPONSE_TOKENS, resting)))


main()
