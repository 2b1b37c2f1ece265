"""The device: waiting for it, timing on it, its memory; and random models made on it."""

from __future__ import annotations

import gc
import platform
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from collm.models.loading import LoadedModel
from gpu_bench.shapes import Shape

TEMPLATE = "{% for m in messages %}{{ 'w1 ' if m['role'] == 'user' else '' }}{{ m['content'] }} w2 {% endfor %}"
"""Plain words between messages: no token that ends a response."""


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Wall-clock seconds until the device is done."""
    wait(device)
    began = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - began


def median_seconds(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    return statistics.median(seconds_of(work, device) for _ in range(repeats))


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def release(device: torch.device) -> None:
    """Give freed memory back, so that the next model finds all of it and the peak counts from here."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def free_bytes(device: torch.device) -> int | None:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None


def peak_gb(device: torch.device) -> dict[str, float]:
    """Largest memory of tensors and of the allocator since `release`, in 1e9 bytes; on a CPU the process's largest, ever."""
    if device.type == "cuda":
        allocated, reserved = torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device)
    else:
        allocated = reserved = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"peak_gb": round(allocated / 1e9, 2), "peak_reserved_gb": round(reserved / 1e9, 2)}


def describe(device: torch.device) -> dict[str, Any]:
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "device": "CPU",
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {"device": properties.name, "memory_gb": round(properties.total_memory / 1e9, 1), "cuda": torch.version.cuda}
    return found


def random_model(shape: Shape, device: torch.device, dtype: torch.dtype, *, head: bool = True) -> LoadedModel:
    """Random weights, made on the device, and a tokenizer of words that never ends a response: its EOS is no token of the model's."""
    common: dict[str, Any] = {
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.mlp,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "max_position_embeddings": 32768,
        "tie_word_embeddings": True,
        "eos_token_id": None,
        "bos_token_id": None,
        "pad_token_id": None,
    }
    config: PretrainedConfig = Qwen3Config(head_dim=shape.head_dim, **common) if shape.family == "qwen3" else Qwen2Config(**common)
    cls: type[PreTrainedModel] = Qwen3ForCausalLM if shape.family == "qwen3" else Qwen2ForCausalLM
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.device(device):
        torch.manual_seed(0)
        made = cls._from_config(config, dtype=dtype, attn_implementation="sdpa")
    model = made if head else made.base_model
    if sum(p.numel() for p in model.parameters()) != shape.parameters:
        raise AssertionError(f"{shape.name}: {sum(p.numel() for p in model.parameters())} parameters, not {shape.parameters}")
    return LoadedModel(model, word_tokenizer(shape.vocabulary))  # pyright: ignore[reportArgumentType]


def word_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """One token per word, w0 to the last, and as many words again when a response is read as text; its EOS comes after them."""
    core = Tokenizer(models.WordLevel({f"w{i}": i for i in range(vocabulary)}, unk_token="w0"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>")
    tokenizer.chat_template = TEMPLATE
    return tokenizer
