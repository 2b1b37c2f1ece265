"""States at some positions, the last layer computed at these alone.

Every position's keys and values are needed in every layer, but the last layer's queries, attention and MLP only where somebody
reads its output: at responses, or at the few positions of an episode that have a value. In a model of few layers that is a large
share of a pass, forward and backward. The sums are those of transformers' layers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import LlamaModel, PreTrainedModel, Qwen2Model, Qwen3Model
from transformers.models.llama.modeling_llama import rotate_half

from collm.models.sequences import Places
from collm.models.tree_attention import attend

FAMILIES = (LlamaModel, Qwen2Model, Qwen3Model)
"""Backbones whose layers are called and built as this module expects. Whether the states are their own must still be tried."""


def states_at(backbone: PreTrainedModel, ids_BT: Tensor, places: Places) -> Tensor:
    """Last hidden states (P, D) of right-padded sequences at places."""
    # The families name their parts alike; nothing types them.
    body: Any = backbone
    x_BTD = body.embed_tokens(ids_BT)
    positions_1T = torch.arange(ids_BT.shape[1], device=ids_BT.device)[None]
    rotation = body.rotary_emb(x_BTD, positions_1T)
    for layer in body.layers[:-1]:
        x_BTD = layer(x_BTD, attention_mask=None, position_ids=positions_1T, position_embeddings=rotation, use_cache=False)
    x_BQD = _at(body.layers[-1], x_BTD, places.column_BQ, *rotation)
    return body.norm(x_BQD[places.row_P, places.slot_P])


def _at(layer: Any, x_BTD: Tensor, column_BQ: Tensor, cos_1Td: Tensor, sin_1Td: Tensor) -> Tensor:
    """A layer's output (B, Q, D) at columns of each row, from its input at all of them."""
    own = layer.self_attn
    rows, queries = column_BQ.shape
    row_B1 = torch.arange(rows, device=x_BTD.device)[:, None]
    h_BTD = layer.input_layernorm(x_BTD)
    query = _rotated(_heads(own, "q", h_BTD[row_B1, column_BQ]), cos_1Td[0, column_BQ], sin_1Td[0, column_BQ])
    key = _rotated(_heads(own, "k", h_BTD), cos_1Td, sin_1Td)
    seen = torch.arange(x_BTD.shape[1], device=x_BTD.device) <= column_BQ[:, None, :, None]
    attended = attend(query, key, _heads(own, "v", h_BTD), seen, own.scaling)
    x_BQD = x_BTD[row_B1, column_BQ] + own.o_proj(attended.transpose(1, 2).reshape(rows, queries, -1))
    return x_BQD + layer.mlp(layer.post_attention_layernorm(x_BQD))


def _heads(attention: Any, part: str, h_BTD: Tensor) -> Tensor:
    """Queries, keys or values (B, heads, T, d); those that the model normalises, normalised."""
    found = getattr(attention, f"{part}_proj")(h_BTD).view(*h_BTD.shape[:2], -1, attention.head_dim)
    norm = attention._modules.get(f"{part}_norm")
    return (found if norm is None else norm(found)).transpose(1, 2)


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """(B, heads, T, d), rotated by angles (B or 1, T, d)."""
    return x * cos[:, None] + rotate_half(x) * sin[:, None]
