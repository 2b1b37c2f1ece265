"""Exact sizes of what a host holds for good: weights, adapters, gradients, optimizer states, copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from collm.config.schema import LoraConfig, OptimizerConfig
from collm.models.adapters import AdapterSwitch
from collm.models.optim import gradient_norm, make_optimizer
from collm.models.passes import ValueHead
from collm.planning.architecture import Architecture, Kind
from collm.planning.live_bytes import LiveBytes

Shapes = tuple[tuple[int, ...], ...]
"""Of the parameters a member trains, all of them fp32."""


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
def trained_shapes(architecture: Architecture, kind: Kind, lora: LoraConfig | None, value_features: int | None) -> Shapes:
    """What a member trains: all weights (of a backbone without its LM head) or an adapter, and its value head.

    Raises ModelError where the adapter's targets fit nothing.
    """
    model = architecture.on_meta(kind, torch.float32)
    parameters = list(model.parameters()) if lora is None else AdapterSwitch(model).add("member", lora, seed=0)
    if value_features is not None:
        with torch.device("meta"):
            parameters += list(ValueHead(architecture.config.get_text_config().hidden_size, value_features).parameters())
    return tuple(tuple(p.shape) for p in parameters)


@cache
def optimizer_cost(shapes: Shapes, config: OptimizerConfig, on_gpu: bool) -> OptimizerCost:
    """By two steps of the production optimizer on fake parameters: the first makes the states, the second is like all later ones."""
    with FakeTensorMode():
        parameters = [nn.Parameter(torch.zeros(shape)) for shape in shapes]
        optimizer = make_optimizer(parameters, config)
        for group in optimizer.param_groups:
            # What torch chooses by the parameters' device.
            group["foreach"] = on_gpu
        for p in parameters:
            p.grad = torch.zeros_like(p)
        gradients = [p.grad for p in parameters if p.grad is not None]
        with LiveBytes([*parameters, *gradients]) as meter:
            _step(parameters, optimizer, config)
        states = [t for state in optimizer.state.values() for t in state.values() if isinstance(t, Tensor)]
        held = _bytes(states)
        with LiveBytes([*parameters, *gradients, *states]) as second:
            _step(parameters, optimizer, config)
    return OptimizerCost(held, max(second.peak, meter.peak - held))


def _step(parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer, config: OptimizerConfig) -> None:
    norm = gradient_norm(parameters)
    if config.gradient_clip is not None:
        torch.nn.utils.clip_grads_with_norm_(parameters, config.gradient_clip, norm)
    optimizer.step()


def bytes_of(shapes: Shapes) -> int:
    """Their size in fp32."""
    return sum(4 * torch.Size(shape).numel() for shape in shapes)


def _bytes(tensors: Sequence[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)
