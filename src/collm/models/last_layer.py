"""States at some positions, the last layer computed at these alone.

Every position's keys and values are needed in every layer, but the last layer's queries, attention and MLP only where somebody
reads its output: at responses, at the few positions of an episode that have a value, at the end of a context. In a model of few
layers that is a large share of a pass, forward and backward. The sums are those of transformers' layers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaModel, PreTrainedModel, Qwen2Model, Qwen3Model
from transformers.cache_utils import Cache
from transformers.models.llama.modeling_llama import rotate_half

from collm.models.decode_step import has_head_norms
from collm.models.sequences import Places
from collm.models.tree_attention import attend

FAMILIES = (LlamaModel, Qwen2Model, Qwen3Model)
"""Backbones whose layers are called and built as this module expects. Whether the states are their own must still be tried."""


def gathered(x_BTD: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """`x_BTD[rows, columns]`, and where a place is named more than once its gradients are added up in one order, every time."""
    # Indexing adds them up with as many threads as there are, in the order in which they come.
    return F.embedding(rows * x_BTD.shape[1] + columns, x_BTD.flatten(0, 1))


def states_at(backbone: PreTrainedModel, ids_BT: Tensor, places: Places) -> Tensor:
    """Last hidden states (P, D) of right-padded sequences at places."""
    # The families name their parts alike; nothing types them.
    body: Any = backbone
    x_BTD = body.embed_tokens(ids_BT)
    positions_1T = torch.arange(ids_BT.shape[1], device=ids_BT.device)[None]
    rotation = body.rotary_emb(x_BTD, positions_1T)
    for layer in body.layers[:-1]:
        x_BTD = layer(x_BTD, attention_mask=None, position_ids=positions_1T, position_embeddings=rotation, use_cache=False)
    layer, column_BQ = body.layers[-1], places.column_BQ
    row_B1 = torch.arange(len(ids_BT), device=ids_BT.device)[:, None]
    h_BTD = layer.input_layernorm(x_BTD)
    key, value = _keys_and_values(layer.self_attn, h_BTD, *rotation)
    cos_1Td, sin_1Td = rotation
    query = _rotated(_heads(layer.self_attn, "q", gathered(h_BTD, row_B1, column_BQ)), cos_1Td[0, column_BQ], sin_1Td[0, column_BQ])
    seen = torch.arange(ids_BT.shape[1], device=ids_BT.device) <= column_BQ[:, None, :, None]
    x_BQD = _output(layer, gathered(x_BTD, row_B1, column_BQ), query, key, value, seen)
    return body.norm(x_BQD[places.row_P, places.slot_P])


def last_states(
    backbone: PreTrainedModel, ids_BT: Tensor, seen_BL: Tensor | None, position_BT: Tensor, cache: Cache, cache_name: str
) -> Tensor:
    """Last hidden states (B, D) of the last column, with everything in `cache` as context; the cache grows by T.

    `seen_BL` marks the columns that are real, the T new ones included (None: all are); the last is.
    """
    body: Any = backbone
    x_BTD = body.embed_tokens(ids_BT)
    cos, sin = body.rotary_emb(x_BTD, position_BT)
    masks = _masks(ids_BT, seen_BL, cache.get_seq_length())
    for layer in body.layers[:-1]:
        known: dict[str, Any] = {"position_ids": position_BT, "position_embeddings": (cos, sin), cache_name: cache}
        x_BTD = layer(x_BTD, attention_mask=masks.of_all, use_cache=True, **known)
    layer = body.layers[-1]
    h_BTD = layer.input_layernorm(x_BTD)
    key, value = cache.update(*_keys_and_values(layer.self_attn, h_BTD, cos, sin), layer.self_attn.layer_idx)
    query = _rotated(_heads(layer.self_attn, "q", h_BTD[:, -1:]), cos[:, -1:], sin[:, -1:])
    return body.norm(_output(layer, x_BTD[:, -1:], query, key, value, masks.of_last)[:, 0])


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


def _output(layer: Any, x_BQD: Tensor, query: Tensor, key: Tensor, value: Tensor, seen: Tensor) -> Tensor:
    """A layer's output (B, Q, D) where its input was `x_BQD`, from its queries there and all keys and values."""
    attended = attend(query, key, value, seen, layer.self_attn.scaling)
    x_BQD = x_BQD + layer.self_attn.o_proj(attended.transpose(1, 2).reshape(*x_BQD.shape[:2], -1))
    return x_BQD + layer.mlp(layer.post_attention_layernorm(x_BQD))


def _keys_and_values(attention: Any, h_BTD: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    return _rotated(_heads(attention, "k", h_BTD), cos, sin), _heads(attention, "v", h_BTD)


def _heads(attention: Any, part: str, h_BTD: Tensor) -> Tensor:
    """Queries, keys or values (B, heads, T, d); those that the model normalises, normalised."""
    found = attention.get_submodule(f"{part}_proj")(h_BTD).view(*h_BTD.shape[:2], -1, attention.head_dim)
    if part != "v" and has_head_norms(attention):
        found = attention.get_submodule(f"{part}_norm")(found)
    return found.transpose(1, 2)


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """(B, heads, T, d), rotated by angles (B or 1, T, d)."""
    return x * cos[:, None] + rotate_half(x) * sin[:, None]
