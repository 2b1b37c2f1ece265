"""What stands between a decoder layer's matrix products, with gradients of its own: fewer passes over memory, less kept for them.

On a CPU a fifth of an update of a small model goes into these. Autograd derives their gradients from single operations, each of
which reads, writes and keeps as much as all of them need together.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


class _RmsNorm(torch.autograd.Function):
    """y = w * x / rms(x). With u = x / rms(x): dL/dx = (w g - u mean(w g u)) / rms(x), dL/dw = sum g u."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        length = torch.linalg.vector_norm(x, 2.0, -1, keepdim=True)
        inverse = length.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        return (x * inverse).mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None]:  # type: ignore[override]
        x, weight, inverse = ctx.saved_tensors
        unit = x * inverse
        shared = gradient * unit
        of_weight = shared.sum(tuple(range(x.dim() - 1))) if ctx.needs_input_grad[1] else None
        along = (shared @ weight)[..., None]
        of_x = torch.mul(gradient, weight, out=shared).addcmul_(unit, along, value=-1.0 / x.shape[-1]).mul_(inverse)
        return of_x, of_weight, None


class _Gated(torch.autograd.Function):
    """silu(gate) * up; of the two factors only what they are made of is kept."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        gate, up = ctx.saved_tensors
        return torch.ops.aten.silu_backward(gradient, gate).mul_(up), F.silu(gate).mul_(gradient)


class _Rotated(torch.autograd.Function):
    """Halves (a, b) of the last dimension become (a cos - b sin, b cos + a sin): back goes the opposite rotation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        cos, sin = ctx.saved_tensors
        return _turned(gradient, cos, sin, -1), None, None


def _turned(x: Tensor, cos: Tensor, sin: Tensor, sense: int) -> Tensor:
    half = x.shape[-1] // 2
    out = x * cos
    out[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-sense)
    out[..., half:].addcmul_(x[..., :half], sin[..., half:], value=sense)
    return out


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """`x` (..., D) over the root of its mean square, times `weight` (D,), all of one type."""
    return _RmsNorm.apply(x, weight, eps)  # type: ignore[no-any-return]


def silu_gated(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up, of equal shapes."""
    return _Gated.apply(gate, up)  # type: ignore[no-any-return]


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """`x` (..., d) with transformers' rotary embedding: `cos` and `sin` broadcast over it, each half of theirs like the other."""
    return _Rotated.apply(x, cos, sin)  # type: ignore[no-any-return]
