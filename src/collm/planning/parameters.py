"""Exact sizes of what a host holds for good: weights, adapters, gradients, optimizer states, copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from collm.config.schema import LoraConfig, OptimizerConfig
from collm.models.adapters import AdapterSwitch
from collm.models.optim import gradient_norm, make_optimizer
from collm.models.passes import ValueHead
from collm.planning.architecture import Architecture, Kind
from collm.planning.live_bytes import LiveBytes

OptimizerKind = Literal["adamw", "adamw_8bit"]
Shapes = tuple[tuple[int, ...], ...]
"""Of the parameters a member trains, all of them fp32."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """A base and what is trained of it: all weights (of a backbone without its LM head), or an adapter."""

    architecture: Architecture
    kind: Kind
    lora: LoraConfig | None


@dataclass(frozen=True, slots=True)
class OptimizerCost:
    """Bytes of the states between steps, and of what one step makes beside them for its own time."""

    states: int
    step: int


@cache
def base_bytes(architecture: Architecture, kind: Kind, dtype: torch.dtype) -> int:
    """A model's own weights and buffers, tied ones once."""
    model = architecture.on_meta(kind, dtype)
    return _bytes([*model.parameters(), *model.buffers()])


@cache
def trained_shapes(tuned: Tuned, value_features: int | None) -> Shapes:
    """What a member trains, its value head included where `value_features` is given.

    Raises ModelError where the adapter's targets fit nothing.
    """
    model = tuned.architecture.on_meta(tuned.kind, torch.float32)
    parameters = list(model.parameters()) if tuned.lora is None else AdapterSwitch(model).add("member", tuned.lora, seed=0)
    if value_features is not None:
        with torch.device("meta"):
            parameters += list(ValueHead(tuned.architecture.config.get_text_config().hidden_size, value_features).parameters())
    return tuple(tuple(p.shape) for p in parameters)


@cache
def optimizer_cost(shapes: Shapes, kind: OptimizerKind, clips: bool, on_gpu: bool) -> OptimizerCost:
    """By two steps of the production optimizer on fake parameters: the first makes the states, the second is like all later ones.

    bitsandbytes' states are counted by its documented layout, since its kernels do not run on fake tensors.
    """
    with FakeTensorMode():
        parameters = [nn.Parameter(torch.zeros(shape)) for shape in shapes]
        for p in parameters:
            p.grad = torch.zeros_like(p)
        gradients = [p.grad for p in parameters if p.grad is not None]
        if kind == "adamw_8bit":
            with LiveBytes([*parameters, *gradients]) as clipping:
                _clip(parameters, clips)
            return OptimizerCost(sum(map(_eight_bit_states, shapes)), clipping.peak)
        optimizer = make_optimizer(parameters, OptimizerConfig())
        for group in optimizer.param_groups:
            # What torch chooses by the parameters' device.
            group["foreach"] = on_gpu
        with LiveBytes([*parameters, *gradients]) as first:
            _clip(parameters, clips)
            optimizer.step()
        states = [t for state in optimizer.state.values() for t in state.values() if isinstance(t, Tensor)]
        held = _bytes(states)
        with LiveBytes([*parameters, *gradients, *states]) as second:
            _clip(parameters, clips)
            optimizer.step()
    return OptimizerCost(held, max(second.peak, first.peak - held))


def _clip(parameters: Sequence[nn.Parameter], clips: bool) -> None:
    norm = gradient_norm(parameters)
    if clips:
        torch.nn.utils.clip_grads_with_norm_(parameters, 1.0, norm)


def _eight_bit_states(shape: tuple[int, ...]) -> int:
    """Two moments of a byte per weight and an fp32 scale per 256 of them; tensors under 4096 weights keep fp32 moments."""
    n = torch.Size(shape).numel()
    return 8 * n if n < 4096 else 2 * n + 2 * 4 * -(-n // 256)


def bytes_of(shapes: Shapes) -> int:
    """Their size in fp32."""
    return sum(4 * torch.Size(shape).numel() for shape in shapes)


def _bytes(tensors: Sequence[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)
