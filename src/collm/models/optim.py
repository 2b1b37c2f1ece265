"""AdamW with a learning-rate schedule that is a pure function of the update index, so that it needs no state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from collm.config.schema import OptimizerConfig
from collm.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands: 0-based `update` of `updates`, and the share of its budget of env steps that is spent (0 without one)."""

    update: int
    updates: int
    budget_spent: float = 0.0


def learning_rate(config: OptimizerConfig, at: Progress) -> float:
    """Learning rate of an update: linear warm-up, then constant, linear or cosine to 0 at the end of the run, whichever ends it."""
    if at.update < config.warmup_updates:
        return config.learning_rate * (at.update + 1) / (config.warmup_updates + 1)
    progress = (at.update - config.warmup_updates) / max(1, at.updates - config.warmup_updates)
    progress = min(max(progress, at.budget_spent), 1.0)
    factor = {"constant": 1.0, "linear": 1.0 - progress, "cosine": 0.5 * (1.0 + math.cos(math.pi * progress))}[config.schedule]
    return config.learning_rate * factor


def make_optimizer(parameters: Sequence[nn.Parameter], config: OptimizerConfig) -> torch.optim.Optimizer:
    """AdamW over the parameters; weight decay on matrices only, as is usual for transformers.

    Raises ConfigError where `config.kind` needs a library that is not installed.
    """
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [g for g in groups if g["params"]]
    if config.kind == "adamw_8bit":
        return _eight_bit_adamw(groups, config.learning_rate)
    # One pass over each tensor where the default makes about ten: most of a small update on a CPU, and memory on a GPU.
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


def _eight_bit_adamw(groups: list[dict[str, Any]], learning_rate: float) -> torch.optim.Optimizer:
    """Moments in 8 bits with an fp32 scale per block of 256; those of small tensors stay fp32."""
    try:
        from bitsandbytes.optim import AdamW8bit  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigError(
            "optimizer.kind=adamw_8bit needs bitsandbytes, which is not installed; pip install 'collm[8bit]' or set optimizer.kind=adamw"
        ) from error
    return AdamW8bit(groups, lr=learning_rate)


def gradient_norm(parameters: Sequence[nn.Parameter]) -> Tensor:
    """Global L2 norm of the gradients, a scalar tensor."""
    grads = [p.grad for p in parameters if p.grad is not None]
    return torch.nn.utils.get_total_norm(grads)
