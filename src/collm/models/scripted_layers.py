"""The layers of `decode_step.py` as one TorchScript function, for a CPU.

Python's share of a small step is as large as the arithmetic's, and hosts that decode side by side take turns at it: a scripted
function has none, and lets go of the interpreter from its first operation to its last (two hosts of the tiny models: 3 times as
fast). TorchScript is deprecated and torch is pinned below the version that might drop it; its successors, `torch.compile` and
`torch.export`, need a C++ compiler on the user's machine.
"""

# No `from __future__ import annotations`: TorchScript reads the annotations.
import warnings
from typing import List, Optional, Tuple  # noqa: UP035 - what TorchScript knows

import torch
import torch.nn.functional as F
from torch import Tensor

LAYER = (
    *("norm", "q", "q_bias", "k", "k_bias", "v", "v_bias", "q_norm", "k_norm", "o", "o_bias"),
    *("mlp_norm", "gate", "gate_bias", "up", "up_bias", "down", "down_bias"),
)
"""A layer's tensors as `all_layers` takes them, 18; a bias or head norm that a model lacks is None."""


def root_mean_square_norm(x: Tensor, weight: Tensor, eps: Tensor) -> Tensor:
    """`F.rms_norm`, which has no kernel of its own on a CPU, in half as many operations."""
    length = torch.linalg.vector_norm(x, 2.0, [-1], True)
    return x * torch.addcmul(eps, length, length, value=1.0 / x.size(-1)).rsqrt_() * weight


def _needed(x: Optional[Tensor]) -> Tensor:  # noqa: UP045
    assert x is not None
    return x


def _all_layers(
    x_BD: Tensor,
    cos: Tensor,
    sin: Tensor,
    seen: Optional[Tensor],  # noqa: UP045
    parts: List[Optional[Tensor]],  # noqa: UP006, UP045
    caches: List[Tuple[Tensor, Tensor]],  # noqa: UP006
    column: int,
    head_dim: int,
    eps: Tensor,
) -> Tensor:
    """`x_BD` (B, D) after all layers; keys and values go into column `column` of the caches, (B, heads, L, d) each.

    `cos` and `sin` (B, 1, d) rotate, the signs of `rotate_half` in `sin`; `seen` (B, 1, 1, column + 1) is added to the scores.
    """
    rows = x_BD.size(0)
    for i, (keys, values) in enumerate(caches):
        p = parts[i * 18 : (i + 1) * 18]
        h = root_mean_square_norm(x_BD, _needed(p[0]), eps)
        q = F.linear(h, _needed(p[1]), p[2]).view(rows, -1, head_dim)
        k = F.linear(h, _needed(p[3]), p[4]).view(rows, -1, head_dim)
        q_norm, k_norm = p[7], p[8]
        if q_norm is not None and k_norm is not None:
            q, k = root_mean_square_norm(q, q_norm, eps), root_mean_square_norm(k, k_norm, eps)
        heads, kv_heads = q.size(1), k.size(1)
        both = torch.cat([q, k], 1)
        both = both * cos + both.roll(head_dim // 2, -1) * sin
        keys.select(2, column).copy_(both.narrow(1, heads, kv_heads))
        values.select(2, column).copy_(F.linear(h, _needed(p[5]), p[6]).view(rows, kv_heads, head_dim))
        # The query heads of one key head go in as if they were successive tokens, so that nothing is repeated.
        grouped = both.narrow(1, 0, heads).reshape(rows, kv_heads, heads // kv_heads, head_dim)
        attended = F.scaled_dot_product_attention(grouped, keys.narrow(2, 0, column + 1), values.narrow(2, 0, column + 1), seen)
        x_BD = x_BD + F.linear(attended.reshape(rows, heads * head_dim), _needed(p[9]), p[10])
        h = root_mean_square_norm(x_BD, _needed(p[11]), eps)
        gated = F.silu(F.linear(h, _needed(p[12]), p[13])) * F.linear(h, _needed(p[14]), p[15])
        x_BD = x_BD + F.linear(gated, _needed(p[16]), p[17])
    return x_BD


with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=".*torch.jit.script.* is deprecated", category=DeprecationWarning)
    all_layers = torch.jit.script(_all_layers)
