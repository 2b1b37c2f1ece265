"""Log-probabilities and entropies straight from hidden states, the LM head in blocks of the vocabulary.

Positions x vocabulary never exists: the forward pass keeps running maxima and sums over blocks (the online softmax of Milakov
and Gimelshein 2018), the backward pass computes each block's logits once more. Every block of the head's weights is read, and
its gradient written, once per call, however many positions there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

BLOCK_ELEMENTS = {"cpu": 1 << 20, "cuda": 1 << 25}
"""Positions x block of the vocabulary held at once: what stays in a core's cache, or keeps a GPU busy (128 MB in fp32)."""


@dataclass(frozen=True, slots=True)
class LinearHead:
    """An LM head that is one linear layer; `autocast` says in which precision it computes."""

    linear: nn.Linear
    autocast: Callable[[], AbstractContextManager[object]]

    def __call__(self, hidden_PD: Tensor) -> Tensor:
        """Logits (P, V)."""
        with self.autocast():
            return self.linear(hidden_PD)

    def statistics(self, hidden_PD: Tensor, targets_P: Tensor, temperature_P: Tensor | None, entropy: bool) -> tuple[Tensor, Tensor]:
        """log softmax(logits / temperature) of the targets and the distributions' entropies, each (P,) in at least fp32.

        `temperature_P` None = 1 throughout. Without `entropy` the second result is NaN and costs nothing.
        """
        weight_VD = self.linear.weight
        device = hidden_PD.device.type
        with self.autocast():
            dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight_VD.dtype
        found = _Statistics.apply(hidden_PD, weight_VD, self.linear.bias, targets_P, temperature_P, dtype, entropy)
        return cast("tuple[Tensor, Tensor]", found)


class _Statistics(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_PD: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        targets_P: Tensor,
        temperature_P: Tensor | None,
        dtype: torch.dtype,
        entropy: bool,
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.dtype = dtype
        logits = _Blocks(hidden_PD, weight_VD, bias_V, temperature_P, dtype)
        top_P = hidden_PD.new_full(targets_P.shape, -torch.inf, dtype=logits.wide)
        sum_P, dot_P, target_P = torch.zeros_like(top_P), torch.zeros_like(top_P), torch.zeros_like(top_P)
        for start, stop, z_PV in logits:
            inside_P, column_P = _place(targets_P, start, stop)
            target_P = torch.where(inside_P, z_PV.gather(-1, column_P[:, None])[:, 0], target_P)
            higher_P = torch.maximum(top_P, z_PV.amax(-1))
            shift_P = (top_P - higher_P).masked_fill(~(sum_P > 0), 0.0)
            z_PV.sub_(higher_P[:, None])
            exp_PV = torch.exp(z_PV, out=logits.scratch(z_PV))
            if entropy:
                # sum exp(z - top) (z - top), moved along as the top rises.
                dot_P = shift_P.exp() * (dot_P + shift_P * sum_P) + z_PV.mul_(exp_PV).sum(-1)
            sum_P = shift_P.exp() * sum_P + exp_PV.sum(-1)
            top_P = higher_P
        normaliser_P = top_P + sum_P.log()
        entropy_P = sum_P.log() - dot_P / sum_P if entropy else torch.full_like(top_P, torch.nan)
        ctx.save_for_backward(hidden_PD, weight_VD, bias_V, targets_P, temperature_P, normaliser_P, entropy_P)
        return target_P - normaliser_P, entropy_P

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_P: Tensor | None, entropy_grad_P: Tensor | None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        hidden_PD, weight_VD, bias_V, targets_P, temperature_P, normaliser_P, entropy_P = ctx.saved_tensors
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        if grad_P is None:
            grad_P = torch.zeros_like(normaliser_P)
        logits = _Blocks(hidden_PD, weight_VD, bias_V, temperature_P, ctx.dtype)
        hidden_grad_PD = torch.zeros_like(hidden_PD, dtype=logits.wide) if wants_hidden else None
        weight_grad_VD = torch.empty_like(weight_VD) if wants_weight else None
        bias_grad_V = torch.empty_like(bias_V) if wants_bias else None
        for start, stop, z_PV in logits:
            z_PV.sub_(normaliser_P[:, None])
            # d log p(target) / dz = onehot - p;  dH / dz = -p (log p + H).
            if entropy_grad_P is None:
                slope_PV = z_PV.exp_().mul_(-grad_P[:, None])
            else:
                exp_PV = torch.exp(z_PV, out=logits.scratch(z_PV))
                slope_PV = exp_PV.mul_(z_PV.add_(entropy_P[:, None]).mul_(entropy_grad_P[:, None]).add_(grad_P[:, None])).neg_()
            inside_P, column_P = _place(targets_P, start, stop)
            slope_PV.scatter_add_(-1, column_P[:, None], grad_P.masked_fill(~inside_P, 0.0)[:, None])
            if temperature_P is not None:
                slope_PV.div_(temperature_P[:, None])
            if bias_grad_V is not None:
                bias_grad_V[start:stop] = slope_PV.sum(0)
            slope_PV = slope_PV.to(ctx.dtype)
            if hidden_grad_PD is not None:
                _add_product(hidden_grad_PD, slope_PV, logits.weight(start, stop))
            if weight_grad_VD is not None:
                _put_product(weight_grad_VD[start:stop], slope_PV.t(), logits.hidden_PD)
        if hidden_grad_PD is not None:
            hidden_grad_PD = hidden_grad_PD.to(hidden_PD.dtype)
        return hidden_grad_PD, weight_grad_VD, bias_grad_V, None, None, None, None


class _Blocks:
    """Logits over the temperature, block by block: (start, stop, logits (P, stop - start)), which the reader may overwrite.

    All blocks lie in the same memory: a fresh one each would leave the cache, and on a CPU come from the kernel page by page.
    """

    def __init__(
        self, hidden_PD: Tensor, weight_VD: Tensor, bias_V: Tensor | None, temperature_P: Tensor | None, dtype: torch.dtype
    ) -> None:
        self.hidden_PD = hidden_PD.to(dtype)
        self.wide = torch.promote_types(dtype, torch.float32)
        self._weight_VD, self._bias_V, self._dtype = weight_VD, bias_V, dtype
        self._temperature_P1 = None if temperature_P is None else temperature_P.to(self.wide)[:, None]
        self._size = max(64, BLOCK_ELEMENTS[hidden_PD.device.type] // max(1, hidden_PD.shape[0]))
        self._scratch: Tensor | None = None

    def __iter__(self) -> Iterator[tuple[int, int, Tensor]]:
        vocabulary = self._weight_VD.shape[0]
        memory = self._block()
        for start in range(0, vocabulary, self._size):
            stop = min(start + self._size, vocabulary)
            z_PV = _part(memory, len(self.hidden_PD), stop - start)
            _put_product(z_PV, self.hidden_PD, self.weight(start, stop).t())
            if self._bias_V is not None:
                z_PV += self._bias_V[start:stop]
            if self._temperature_P1 is not None:
                z_PV /= self._temperature_P1
            yield start, stop, z_PV

    def scratch(self, like_PV: Tensor) -> Tensor:
        """Uninitialised memory of a block's shape, the same for every block."""
        if self._scratch is None:
            self._scratch = self._block()
        return _part(self._scratch, *like_PV.shape)

    def _block(self) -> Tensor:
        columns = min(self._size, self._weight_VD.shape[0])
        return self.hidden_PD.new_empty(len(self.hidden_PD) * columns, dtype=self.wide)

    def weight(self, start: int, stop: int) -> Tensor:
        """The head's rows of a block, in the precision of the computation."""
        return self._weight_VD[start:stop].to(self._dtype)


def _part(memory: Tensor, rows: int, columns: int) -> Tensor:
    return memory[: rows * columns].view(rows, columns)


def _place(targets_P: Tensor, start: int, stop: int) -> tuple[Tensor, Tensor]:
    """Whether each target lies in the block, and its column there (any column where it does not)."""
    return (targets_P >= start) & (targets_P < stop), (targets_P - start).clamp(0, stop - start - 1)


def _add_product(into_PD: Tensor, left: Tensor, right: Tensor) -> None:
    """into += left @ right, added up in the precision of `into`."""
    if into_PD.dtype == left.dtype:
        into_PD.addmm_(left, right)
    else:
        into_PD += left @ right


def _put_product(into: Tensor, left: Tensor, right: Tensor) -> None:
    if into.dtype == left.dtype:
        torch.mm(left, right, out=into)
    else:
        into.copy_(left @ right)
