"""What the bare model needs for collm's tokens, run by its own interpreter: plain transformers and torch; prints one JSON object.

    .venv/bin/python floor.py CHECKPOINT METHOD EPISODES OPTIMIZER_STEPS

Generation: every agent's conversations as one batch with a key-value cache kept over turns, random tokens instead of draws.
Update: forward and backward over every distinct token of every agent and critic once, the head where responses are, AdamW.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, DynamicCache

sys.path.insert(0, str(Path(__file__).parent.parent))

from equal_work import task

ROWS_AT_ONCE = 4
SEES, SAYS = "[agent_0 sees]\n\n", "[agent_0 says]\n\n"
"""What collm's critic of several agents reads around each observation and each response."""
SEEN, SAID = "\n", "> \n"
"""What its critic of one does."""


@dataclass(frozen=True)
class Load:
    """The distinct tokens that one member learns from in an update, cut into rows of equal length."""

    rows: float
    length: int
    written: int
    """Tokens per row whose log-probabilities are asked for; 0 for a critic."""


def actor_load(episodes: int, samples: int) -> Load:
    """A tree's shared prefixes count once, as in collm: its tokens as rows of one conversation's length."""
    length = task.history_tokens(task.TURNS - 1) + task.RESPONSE_TOKENS
    joint = task.tree_steps(samples)
    answered = joint - (samples**task.TURNS if samples > 1 else 1)
    tokens = task.FIRST_TOKENS + joint * task.RESPONSE_TOKENS + answered * task.LATER_TOKENS
    rows = tokens / length
    return Load(episodes * rows, length, round(joint * task.RESPONSE_TOKENS / rows))


def critic_load(episodes: int, read_agents: int) -> Load:
    """Observations and responses of so many agents in the order of time, up to the last value."""
    last = task.TURNS - 1
    before, after = (SEES, SAYS) if read_agents > 1 else (SEEN, SAID)
    own = task.history_tokens(last) + task.TURNS * len(before) + last * len(after)
    return Load(episodes, read_agents * own, 0)


def loads(method: str, episodes: int) -> list[Load]:
    """Of all members."""
    samples = 2 if method == "magrpo" else 1
    critics = {"magrpo": [], "collm-cc": [critic_load(episodes, task.AGENTS)], "collm-dc": [critic_load(episodes, 1)] * task.AGENTS}
    return [actor_load(episodes, samples)] * task.AGENTS + critics[method]


@torch.inference_mode()
def generate(model: Any, rows: int, samples: int, turns: int = task.TURNS) -> None:
    """One agent's part of a rollout."""
    cache, vocabulary = DynamicCache(), model.config.vocab_size

    def feed(count: int, rows: int) -> None:
        model(input_ids=torch.randint(4, vocabulary, (rows, count)), past_key_values=cache, use_cache=True, logits_to_keep=1)

    for turn in range(turns):
        # The last sampled token has not been read yet.
        feed(task.FIRST_TOKENS if turn == 0 else task.LATER_TOKENS + 1, rows)
        if samples > 1:
            cache.batch_repeat_interleave(samples)
            rows *= samples
        for _ in range(task.RESPONSE_TOKENS - 1):
            feed(1, rows)


def learn(model: Any, load: Load) -> None:
    """Forward and backward over a load."""
    todo = math.ceil(load.rows)
    for start in range(0, todo, ROWS_AT_ONCE):
        rows = min(ROWS_AT_ONCE, todo - start)
        ids = torch.randint(4, model.config.vocab_size, (rows, load.length))
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
        if load.written:
            logits = model.lm_head(hidden[:, -load.written - 1 : -1])
            torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, -load.written :].flatten()).backward()
        else:
            hidden[:, -1].mean().backward()


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def measure(checkpoint: str, method: str, episodes: int, optimizer_steps: int) -> dict[str, float]:
    """Seconds of the bare model per env step."""
    samples = 2 if method == "magrpo" else 1
    steps = episodes * task.tree_steps(samples)
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)
    generate(model, episodes, samples, turns=1)
    learn(model, Load(1, 100, 10))
    optimizer.step()
    rollout = sum(seconds(lambda: generate(model, episodes, samples)) for _ in range(task.AGENTS))
    members = loads(method, episodes)
    learning = sum(_exact(model, load) for load in members)
    stepping = seconds(optimizer.step) * optimizer_steps * len(members)
    return {
        "rollout_s_per_env_step": rollout / steps,
        "update_s_per_env_step": (learning + stepping) / steps,
        "optimizer_s_per_env_step": stepping / steps,
        "update_tokens_per_env_step": sum(load.rows * load.length for load in members) / steps,
    }


def _exact(model: Any, load: Load) -> float:
    """A load's seconds without the part by which its last row was filled up."""
    return seconds(lambda: learn(model, load)) * load.rows / math.ceil(load.rows)


def main(arguments: Sequence[str]) -> None:
    checkpoint, method, episodes, optimizer_steps = arguments
    torch.manual_seed(0)
    print(json.dumps(measure(checkpoint, method, int(episodes), int(optimizer_steps))))


if __name__ == "__main__":
    main(sys.argv[1:])
