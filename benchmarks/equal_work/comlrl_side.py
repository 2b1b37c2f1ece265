"""comlrl's side, run by its own interpreter: one of its public trainers on the task; prints one JSON object.

<comlrl venv>/bin/python comlrl_side.py CHECKPOINT METHOD BUFFER BATCH ROLLOUTS WARM_UP

An update is made every BUFFER samples, with at most BATCH of them in an optimizer step.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

sys.path.insert(0, str(Path(__file__).parent.parent))

from comlrl.trainers.actor_critic import IACConfig, IACTrainer, MAACConfig, MAACTrainer  # pyright: ignore[reportMissingImports]
from comlrl.trainers.reinforce import MAGRPOConfig, MAGRPOTrainer  # pyright: ignore[reportMissingImports]
from transformers import AutoModelForCausalLM, AutoTokenizer

from equal_work import task
from equal_work.probe import Clock, resident_mb

NEVER = 4
"""As in checkpoint.py, which needs what this environment may lack."""


class Tasks(torch.utils.data.Dataset):
    """The episodes, one string each. comlrl fetches one when it is about to play it."""

    def __init__(self, count: int, clock: Clock) -> None:
        self._count, self._clock = count, clock
        self.column_names = ["prompt"]

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> dict[str, Any]:
        if number >= self._count:
            raise IndexError(number)
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
        if any(len(text) != task.RESPONSE_TOKENS for text in [*texts_0, *texts_1]):
            raise RuntimeError("a response reached the reward shortened: the work would not be equal")
        self._clock.step()
        return [task.reward(batch_items[0]["prompt"], [a, b]) for a, b in zip(texts_0, texts_1, strict=True)]

    def transition(
        self,
        prompt: str,
        agent_completions: Sequence[str],
        num_agents: int,
        prompt_history_per_agent: Sequence[Sequence[str]],
        response_history_per_agent: Sequence[Sequence[str]],
    ) -> list[str]:
        """The whole history on this branch, which must be what was read last, what was said, and the new observation."""
        prompts = [task.history(prompt, agent, response_history_per_agent) for agent in range(num_agents)]
        for agent, text in enumerate(prompts):
            before = prompt_history_per_agent[agent][-1] + agent_completions[agent]
            if not text.startswith(before) or len(text) != len(before) + task.LATER_TOKENS:
                raise RuntimeError("comlrl's histories are not those of the branch")
        return prompts


def count_tokens(model: Any, clock: Clock) -> Any:
    """The model, its `generate` counted and checked."""
    inner = model.generate

    def generate(**kwargs: Any) -> Any:
        given = inner(**kwargs)
        rows = given if isinstance(given, torch.Tensor) else given.sequences
        prompt = kwargs["input_ids"].shape[1]
        written = rows[:, prompt:]
        if written.shape[1] != task.RESPONSE_TOKENS or bool((written < NEVER).any()):
            raise RuntimeError("a response ended early: the work would not be equal")
        clock.answered(rows.shape[0] * prompt, written.numel())
        return given

    model.generate = generate
    return model


def make_trainer(method: str, checkpoint: str, buffer: int, batch: int, game: Game, clock: Clock) -> Any:
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
        "train_batch_size": batch,
    }
    parts = {
        "agents": [count_tokens(AutoModelForCausalLM.from_pretrained(checkpoint), clock) for _ in range(task.AGENTS)],
        "tokenizer": [AutoTokenizer.from_pretrained(checkpoint) for _ in range(task.AGENTS)],
        "reward_func": game.reward,
        "formatters": [game.formatter(agent) for agent in range(task.AGENTS)],
        "external_transition": game.transition,
        "train_dataset": None,
        "wandb_config": None,
    }
    if method == "magrpo":
        trainer = MAGRPOTrainer(**parts | {"train_dataset": Tasks(1, clock)}, args=MAGRPOConfig(num_generations=2, **common))
    else:
        critics = [AutoModelForCausalLM.from_pretrained(checkpoint) for _ in range(1 if method == "collm-cc" else task.AGENTS)]
        trainer_class, config = (MAACTrainer, MAACConfig) if method == "collm-cc" else (IACTrainer, IACConfig)
        trainer = trainer_class(**parts, critics=critics, args=config(num_generations=1, **common))
    trainer.verbose = False
    return trainer


def main() -> None:
    checkpoint, method, buffer, batch, rollouts, warm_up = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
    random.seed(0)
    torch.manual_seed(0)
    clock = Clock()
    trainer = make_trainer(method, checkpoint, buffer, batch, Game(clock), clock)
    register_optimizer_step_post_hook(clock.optimizer_stepped)
    resting = resident_mb()
    if warm_up:
        # With the update that ends an epoch, so that what is timed is warm and begins with an empty buffer.
        trainer.train_dataset = Tasks(warm_up, clock)
        trainer.train()
    clock.restart()
    # Rollouts begin when their episodes are fetched.
    clock.moments.clear()
    trainer.train_dataset = Tasks(rollouts, clock)
    trainer.train()
    clock.begin()
    versions = {name: version(name) for name in ("comlrl", "torch", "transformers")}
    print(json.dumps(clock.report() | {"resting_mb": resting, "versions": versions}))


main()
