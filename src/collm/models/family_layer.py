"""One layer of the Llama family, from the same weights and modules as transformers' own, in the parts that passes put together.

What lies between its matrix products goes through `elementwise.py`, norms only on a CPU. The sums are those of transformers' layers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import LlamaModel, Qwen2Model, Qwen3Model

from collm.models.elementwise import rms_norm, rotated, silu_gated

FAMILIES = (LlamaModel, Qwen2Model, Qwen3Model)
"""Backbones whose layers are called and built as this module expects. Whether the states are their own must still be tried."""

WIDE = (torch.float32, torch.float64)
"""Types in which norms are computed as they come; narrower ones transformers widens for it."""


class Rotation(NamedTuple):
    """The angles of positions, (B or 1, T, 1, d): for all heads alike."""

    cos: Tensor
    sin: Tensor

    @classmethod
    def of(cls, backbone: Any, x_BTD: Tensor, position_BT: Tensor) -> Rotation:
        cos, sin = backbone.rotary_emb(x_BTD, position_BT)
        return cls(cos[:, :, None], sin[:, :, None])

    def at(self, column_BQ: Tensor) -> Rotation:
        """Of these columns, where all rows have the same positions."""
        return Rotation(self.cos[0, column_BQ], self.sin[0, column_BQ])

    def last(self) -> Rotation:
        """Of the last column."""
        return Rotation(self.cos[:, -1:], self.sin[:, -1:])


def queries(attention: Any, h_BTD: Tensor, rotation: Rotation) -> Tensor:
    """(B, heads, T, d)."""
    return _heads(attention, "q", h_BTD, rotation)


def keys_and_values(attention: Any, h_BTD: Tensor, rotation: Rotation) -> tuple[Tensor, Tensor]:
    """(B, heads, T, d) each."""
    value = attention.v_proj(h_BTD).view(*h_BTD.shape[:2], -1, attention.head_dim)
    return _heads(attention, "k", h_BTD, rotation), value.transpose(1, 2)


def after_attention(layer: Any, x_BTD: Tensor, attended: Tensor) -> Tensor:
    """The stream (B, T, D) that was `x_BTD`, with what a layer's attention gave, (B, heads, T, d)."""
    return x_BTD + layer.self_attn.o_proj(attended.transpose(1, 2).reshape(*x_BTD.shape[:2], -1))


def after_mlp(layer: Any, x_BTD: Tensor) -> Tensor:
    """The stream with what a layer's MLP makes of it: the layer's output."""
    return x_BTD + layer.mlp.down_proj(_gated(layer.mlp, normalised(layer.post_attention_layernorm, x_BTD)))


def _gated(mlp: Any, h_BTD: Tensor) -> Tensor:
    # On its own, so that without gradients nothing of it is left while its result is projected.
    gate, up = mlp.gate_proj(h_BTD), mlp.up_proj(h_BTD)
    return silu_gated(gate, up) if mlp.config.hidden_act in ("silu", "swish") else mlp.act_fn(gate) * up


def normalised(norm: Any, x: Tensor) -> Tensor:
    """The norm of the last dimension."""
    # Autocast would round the product in its gradient.
    wide = x.dtype in WIDE and x.dtype == norm.weight.dtype and not torch.is_autocast_enabled(x.device.type)
    if x.device.type == "cpu" and wide:
        return rms_norm(x, norm.weight, norm.variance_epsilon)
    return norm(x)


def has_head_norms(attention: nn.Module) -> bool:
    """Whether queries and keys are normalised head by head, as Qwen3's are."""
    return isinstance(getattr(attention, "q_norm", None), nn.Module)


def _heads(attention: Any, part: str, h_BTD: Tensor, rotation: Rotation) -> Tensor:
    """Queries or keys; those that the model normalises, normalised."""
    found = attention.get_submodule(f"{part}_proj")(h_BTD).view(*h_BTD.shape[:2], -1, attention.head_dim)
    if has_head_norms(attention):
        found = normalised(attention.get_submodule(f"{part}_norm"), found)
    return rotated(found, *rotation).transpose(1, 2)
