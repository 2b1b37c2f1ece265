"""Passes through a decoder of the Llama family, all positions or only those whose states somebody reads.

Every position's keys and values are needed in every layer, but the last layer's queries, attention and MLP only where somebody
reads its output: at responses, at the few positions of an episode that have a value, at the end of a context. In a model of few
layers that is a large share of a pass, forward and backward.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from collm.models.family_layer import Rotation, after_attention, after_mlp, keys_and_values, normalised, queries
from collm.models.sequences import Places
from collm.models.tree_attention import Branches, attend, attend_along

Attention = Callable[[Tensor, Tensor, Tensor, float], Tensor]
"""(queries, keys, values, scaling) -> (B, heads, T, d)."""


def gathered(x_BTD: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """`x_BTD[rows, columns]`, and where a place is named more than once its gradients are added up in one order, every time."""
    # Indexing adds them up with as many threads as there are, in the order in which they come.
    return F.embedding(rows * x_BTD.shape[1] + columns, x_BTD.flatten(0, 1))


def all_states(backbone: PreTrainedModel, ids_BT: Tensor, branches: Branches | None) -> Tensor:
    """Last hidden states (B, T, D) of right-padded sequences, or of one row that branches."""
    # The families name their parts alike; nothing types them.
    body: Any = backbone
    x_BTD = body.embed_tokens(ids_BT)
    if branches is None:
        rotation, attention = Rotation.of(body, x_BTD, _positions(ids_BT)), _causal
    else:
        rotation = Rotation.of(body, x_BTD, branches.position_1T)
        attention = partial(attend_along, branches)
    for layer in body.layers:
        x_BTD = _whole(layer, x_BTD, rotation, attention)
    return normalised(body.norm, x_BTD)


def states_at(backbone: PreTrainedModel, ids_BT: Tensor, places: Places) -> Tensor:
    """Last hidden states (P, D) of right-padded sequences at places."""
    body: Any = backbone
    x_BTD = body.embed_tokens(ids_BT)
    rotation = Rotation.of(body, x_BTD, _positions(ids_BT))
    for layer in body.layers[:-1]:
        x_BTD = _whole(layer, x_BTD, rotation, _causal)
    layer, column_BQ = body.layers[-1], places.column_BQ
    row_B1 = torch.arange(len(ids_BT), device=ids_BT.device)[:, None]
    h_BTD = normalised(layer.input_layernorm, x_BTD)
    key, value = keys_and_values(layer.self_attn, h_BTD, rotation)
    query = queries(layer.self_attn, gathered(h_BTD, row_B1, column_BQ), rotation.at(column_BQ))
    seen = torch.arange(ids_BT.shape[1], device=ids_BT.device) <= column_BQ[:, None, :, None]
    attended = attend(query, key, value, seen, layer.self_attn.scaling)
    x_BQD = after_mlp(layer, after_attention(layer, gathered(x_BTD, row_B1, column_BQ), attended))
    return normalised(body.norm, x_BQD[places.row_P, places.slot_P])


def last_states(backbone: PreTrainedModel, ids_BT: Tensor, seen_BL: Tensor | None, position_BT: Tensor, cache: Cache) -> Tensor:
    """Last hidden states (B, D) of the last column, with everything in `cache` as context; the cache grows by T.

    `seen_BL` marks the columns that are real, the T new ones included (None: all are); the last is.
    """
    body: Any = backbone
    x_BTD = body.embed_tokens(ids_BT)
    rotation = Rotation.of(body, x_BTD, position_BT)
    masks = _masks(ids_BT, seen_BL, cache.get_seq_length())

    def cached(index: int, mask: Tensor | None, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        key, value = cache.update(key, value, index)
        return attend(query.to(key.dtype), key, value, mask, scaling)

    for i, layer in enumerate(body.layers[:-1]):
        x_BTD = _whole(layer, x_BTD, rotation, partial(cached, i, masks.of_all))
    layer, last = body.layers[-1], len(body.layers) - 1
    h_BTD = normalised(layer.input_layernorm, x_BTD)
    query = queries(layer.self_attn, h_BTD[:, -1:], rotation.last())
    attended = cached(last, masks.of_last, query, *keys_and_values(layer.self_attn, h_BTD, rotation), layer.self_attn.scaling)
    return normalised(body.norm, after_mlp(layer, after_attention(layer, x_BTD[:, -1:], attended))[:, 0])


def _whole(layer: Any, x_BTD: Tensor, rotation: Rotation, attention: Attention) -> Tensor:
    """A layer's output at all positions."""
    return after_mlp(layer, after_attention(layer, x_BTD, _attended(layer, x_BTD, rotation, attention)))


def _attended(layer: Any, x_BTD: Tensor, rotation: Rotation, attention: Attention) -> Tensor:
    h_BTD, own = normalised(layer.input_layernorm, x_BTD), layer.self_attn
    return attention(queries(own, h_BTD, rotation), *keys_and_values(own, h_BTD, rotation), own.scaling)


def _causal(query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
    return attend(query, key, value, None, scaling)


def _positions(ids_BT: Tensor) -> Tensor:
    return torch.arange(ids_BT.shape[1], device=ids_BT.device)[None]


class _Masks(NamedTuple):
    """What may be seen, True = yes."""

    of_all: Tensor | None
    """(B or 1, 1, T, L); None where that is plain causal attention."""
    of_last: Tensor
    """By the last column alone, (B or 1, 1, 1, L)."""


def _masks(ids_BT: Tensor, seen_BL: Tensor | None, before: int) -> _Masks:
    width = before + ids_BT.shape[1]
    column_L = torch.arange(width, device=ids_BT.device)
    column_T1 = column_L[before:, None]
    if seen_BL is None:
        return _Masks(
            (column_L <= column_T1)[None, None] if before else None, torch.ones_like(column_L, dtype=torch.bool)[None, None, None]
        )
    seen = seen_BL.bool()[:, None, None]
    # Padding sees itself, so that nothing becomes NaN; nobody sees padding.
    return _Masks((column_L <= column_T1) & (seen | (column_L == column_T1)), seen)
