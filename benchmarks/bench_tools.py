"""What the benchmarks of speed share: random models of a given size, an environment of fixed lengths, the machine, paired timings."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from pettingzoo import ParallelEnv
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from collm.models.loading import LoadedModel


@dataclass(frozen=True, slots=True)
class Shape:
    """Size of a random Qwen3 with tied embeddings."""

    vocabulary: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int


THIRTY_MILLION = Shape(32000, 384, 10, 6, 2, 64, 1152)
SMALL = Shape(259, 64, 2, 4, 2, 16, 160)
"""For costs that are counted, and for timings in which a model must not take long; the vocabulary is the tokenizer's."""


def random_model(shape: Shape, seed: int = 0, positions: int = 4096) -> LoadedModel:
    """A Qwen3 with random weights and a byte-level tokenizer."""
    config = Qwen3Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        intermediate_size=shape.mlp,
        max_position_embeddings=positions,
        tie_word_embeddings=True,
        eos_token_id=256,
        pad_token_id=257,
        bos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3ForCausalLM(config)
    model.eval()
    return LoadedModel(model, _tokenizer())


def _tokenizer() -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|end|>", pad_token="<|pad|>", additional_special_tokens=["<|turn|>"]
    )
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'assistant' %}{{ m['content'] }}<|end|>"
        "{% else %}{{ m['content'] }}<|turn|>{% endif %}{% endfor %}"
    )
    return tokenizer


class FixedEnv(ParallelEnv[str, str, str]):
    """Prompts of a fixed length that differ by seed and agent; `turns` turns, no early end, a reward that varies with the text."""

    def __init__(self, n: int, turns: int, prompt: int = 40, feedback: int = 16) -> None:
        self.metadata = {"name": "fixed_v0"}
        self.possible_agents = [f"agent_{i}" for i in range(n)]
        self.agents: list[str] = []
        self._turns, self._prompt, self._feedback = turns, prompt, feedback
        self._turn, self._word = 0, 0

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, str], dict[str, Any]]:
        self._turn, self._word, self.agents = 0, seed or 0, list(self.possible_agents)
        return self._observations(self._prompt), {a: {} for a in self.agents}

    def step(self, actions: dict[str, str]) -> tuple[dict[str, str], dict[str, float], dict[str, bool], dict[str, bool], dict[str, Any]]:
        agents, self._turn = self.agents, self._turn + 1
        over = self._turn >= self._turns
        self.agents = [] if over else agents
        reward = sum(map(ord, "".join(actions.values()))) % 101 / 100
        flags = dict.fromkeys(agents, False), dict.fromkeys(agents, over)
        return self._observations(self._feedback), dict.fromkeys(agents, reward), *flags, {a: {} for a in agents}

    def state(self) -> dict[str, Any]:  # type: ignore[override]
        return {"text": f"turn {self._turn}", "features": np.array([self._turn / self._turns], dtype=np.float32)}

    def _observations(self, length: int) -> dict[str, str]:
        return {a: f"{i}{self._word:010d}{self._turn}".ljust(length, ".")[:length] for i, a in enumerate(self.possible_agents)}


@dataclass(frozen=True, slots=True)
class Spent:
    """What one call took."""

    wall: float
    cpu: float
    """Processor seconds of all threads: unlike the wall time they hardly depend on who else is busy."""


def timed(call: Callable[[], object]) -> Spent:
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return Spent(time.perf_counter() - wall, time.process_time() - cpu)


def alternate(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[Spent]]:
    """Each call once per round, after one round that is not counted; every other round goes backwards."""
    for call in calls.values():
        call()
    spent: dict[str, list[Spent]] = {name: [] for name in calls}
    for number in range(rounds):
        for name in reversed(list(calls)) if number % 2 else calls:
            spent[name].append(timed(calls[name]))
    return spent


def throughput_ratio(ours: Sequence[Spent], bare: Sequence[Spent], which: str = "wall") -> float:
    """Our throughput over the bare model's at equal work: the median over rounds, whose two runs stood next to each other."""
    return statistics.median(getattr(b, which) / getattr(o, which) for o, b in zip(ours, bare, strict=True))


def machine() -> dict[str, Any]:
    """Where a result comes from."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return {
        "cpu": cpu,
        "cpus": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "load_average_before": os.getloadavg()[0],
    }


def write_result(result: Mapping[str, Any], about: Mapping[str, Any], out: Path) -> None:
    """Write the result with its machine as JSON, and print the same object as the last line."""
    whole = {**result, "machine": {**about, "load_average_after": os.getloadavg()[0]}, "date": datetime.now(UTC).date().isoformat()}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(whole))
