"""Attention along the branches of a tree of tokens, as an attention function of transformers.

Each segment attends to its ancestors and, causally, to itself: as many products as the tree has, where a mask over the whole
row would compute all pairs. Without a layout it is transformers' sdpa attention, unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from collm.models.sequences import TreeLayout

NAME = "collm_tree"


@dataclass(slots=True)
class Branches:
    """A layout made ready for the layers of one pass: segments of equal length and depth are computed together."""

    layout: TreeLayout
    position_1T: Tensor
    """Of each token its distance from the root."""
    groups: list[list[int]] = field(default_factory=list)
    masks: list[Tensor | None] = field(default_factory=list)
    """Per group (s, p + s), True = may be seen; None where there is nothing before: plain causal attention."""

    @classmethod
    def of(cls, layout: TreeLayout, device: torch.device) -> Branches:
        depths: list[int] = []
        groups: dict[tuple[int, int], list[int]] = {}
        for i, (length, parent) in enumerate(zip(layout.lengths, layout.parents, strict=True)):
            before = depths[parent] + layout.lengths[parent] if parent >= 0 else 0
            depths.append(before)
            groups.setdefault((length, before), []).append(i)
        masks = [torch.ones(s, p + s, dtype=torch.bool, device=device).tril(p) if p else None for s, p in groups]
        return cls(layout, torch.tensor([layout.positions], device=device), list(groups.values()), masks)


def tree_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    branches: Branches | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention output (1, T, heads, d) for queries (1, heads, T, d) and keys and values (1, heads or fewer, T, d)."""
    if branches is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
    return attend_along(branches, query, key, value, scaling).transpose(1, 2).contiguous(), None


def attend_along(branches: Branches, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
    """Attention output (1, heads, T, d) for queries (1, heads, T, d) and keys and values (1, heads or fewer, T, d)."""
    layout = branches.layout
    query_S = query.split(layout.lengths, dim=2)
    key_S, value_S = _paths(key, layout), _paths(value, layout)
    found: dict[int, Tensor] = {}
    for group, mask in zip(branches.groups, branches.masks, strict=True):
        q, k, v = (torch.cat([x[i] for i in group]) for x in (query_S, key_S, value_S))
        out = attend(q, k, v, mask, scaling)
        found |= {i: out[g : g + 1] for g, i in enumerate(group)}
    return torch.cat([found[i] for i in range(len(layout.lengths))], dim=2)


def _paths(x: Tensor, layout: TreeLayout) -> list[Tensor]:
    """Of each segment the states from its root to its end."""
    own: Sequence[Tensor] = x.split(layout.lengths, dim=2)
    paths: list[Tensor] = []
    for states, parent in zip(own, layout.parents, strict=True):
        paths.append(states if parent < 0 else torch.cat([paths[parent], states], dim=2))
    return paths


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scaling: float | None) -> Tensor:
    """Attention (B, heads, S, d) of queries to fewer or as many heads of keys and values; without a mask it is causal."""
    groups = q.shape[1] // k.shape[1]
    # With a mask, CUDA has no fast kernel for grouped heads.
    grouped = groups > 1 and (mask is None or q.device.type == "cpu")
    if groups > 1 and not grouped:
        k, v = repeat_kv(k, groups), repeat_kv(v, groups)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=grouped)


AttentionInterface.register(NAME, tree_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
