"""The allocations of `collm.models.fused_head`, for one block of the vocabulary in place of hundreds.

All blocks lie in the same memory, made anew for each of the two passes; a test holds the two files together.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from collm.models.fused_head import BLOCK_ELEMENTS


def head_in_one_block(hidden_PD: Tensor, weight_VD: Tensor, bias_V: Tensor | None, on_gpu: bool) -> tuple[Tensor, Tensor]:
    """Two results (P,), as `LinearHead.statistics` gives, with nothing in them that means anything."""
    dtype = torch.bfloat16 if on_gpu else weight_VD.dtype
    elements = BLOCK_ELEMENTS["cuda" if on_gpu else "cpu"]
    size = min(max(64, elements // max(1, len(hidden_PD))), weight_VD.shape[0])
    return cast("tuple[Tensor, Tensor]", _OneBlock.apply(hidden_PD, weight_VD, bias_V, dtype, size))


class _OneBlock(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_PD: Tensor, weight_VD: Tensor, bias_V: Tensor | None, dtype: torch.dtype, size: int
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.dtype, ctx.size = dtype, size
        wide = torch.promote_types(dtype, torch.float32)
        cast_PD = hidden_PD.to(dtype)
        statistics = [hidden_PD.new_zeros(len(hidden_PD), dtype=wide) for _ in range(4)]
        block_PV = _product(cast_PD, weight_VD[:size], dtype, wide)
        exp_PV = torch.empty_like(block_PV)
        if size < weight_VD.shape[0]:
            _cast_product(cast_PD, weight_VD[:size], dtype, wide)
        ctx.save_for_backward(hidden_PD, weight_VD, bias_V, *statistics[:2])
        del block_PV, exp_PV
        return statistics[2], statistics[3]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        hidden_PD, weight_VD, bias_V, *_ = ctx.saved_tensors
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        wide = torch.promote_types(ctx.dtype, torch.float32)
        cast_PD = hidden_PD.to(ctx.dtype)
        hidden_grad_PD = torch.zeros_like(hidden_PD, dtype=wide) if wants_hidden else None
        weight_grad_VD = torch.empty_like(weight_VD) if wants_weight else None
        bias_grad_V = torch.empty_like(bias_V) if wants_bias else None
        block_PV = _product(cast_PD, weight_VD[: ctx.size], ctx.dtype, wide)
        slope_PV = block_PV.to(ctx.dtype)
        if ctx.size < weight_VD.shape[0]:
            _cast_product(cast_PD, weight_VD[: ctx.size], ctx.dtype, wide)
        del block_PV, slope_PV
        if hidden_grad_PD is not None:
            hidden_grad_PD = hidden_grad_PD.to(hidden_PD.dtype)
        return hidden_grad_PD, weight_grad_VD, bias_grad_V, None, None


def _product(hidden_PD: Tensor, weight_vD: Tensor, dtype: torch.dtype, wide: torch.dtype) -> Tensor:
    """A block's logits, in memory of their own."""
    block_PV = hidden_PD.new_empty(len(hidden_PD), len(weight_vD), dtype=wide)
    _cast_product(hidden_PD, weight_vD, dtype, wide)
    return block_PV


def _cast_product(hidden_PD: Tensor, weight_vD: Tensor, dtype: torch.dtype, wide: torch.dtype) -> None:
    """What is made on the way to logits that are wider than their computation."""
    if dtype != wide:
        torch.mm(hidden_PD, weight_vD.to(dtype).t())
