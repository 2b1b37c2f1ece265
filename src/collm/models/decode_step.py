"""One token per row through a decoder of the Llama family, in as few operations as it takes.

With few rows or a small model most of a step goes into what stands between the model's operations. This computes what
transformers' layers compute, from the same weights, without masks built anew, dispatch over attention functions, and
norms, rotations and reshapes piece by piece. It is used for a model only after it has given the model's own logits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaForCausalLM, PreTrainedModel, Qwen2ForCausalLM, Qwen3ForCausalLM
from transformers.cache_utils import Cache

from collm.models.family_layer import WIDE, has_head_norms
from collm.models.kv import buffered
from collm.models.loading import keeps_plain_kv
from collm.models.scripted_layers import LAYER, all_layers, root_mean_square_norm
from collm.models.tree_attention import NAME as TREE_ATTENTION

FAMILIES = (LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM)
STEADY_ROTATIONS = {"default", "linear", "llama3", "yarn"}
"""Rotary embeddings whose angles depend on the position alone, not on how long the text is."""

Apply = Callable[[Tensor], Tensor]


class Column(Protocol):
    """A layer's keys and values, to which a column can be added."""

    def append(self, key_BKd: Tensor, value_BKd: Tensor) -> tuple[Tensor, Tensor]:
        """Put one more column to every row; gives all keys and values (B, heads, L, d)."""
        ...


@dataclass(frozen=True, slots=True)
class _Layer:
    """What a layer applies, adapters included."""

    norm: Apply
    query: Apply
    key: Apply
    value: Apply
    query_norm: Apply | None
    key_norm: Apply | None
    out: Apply
    mlp_norm: Apply
    gate: Apply
    activation: Apply
    up: Apply
    down: Apply


class DecodeStep:
    """The layers of one model as they are now: make a new one after modules were replaced (weights may change).

    With `narrow` it holds copies of its products' weights in that type, as they are now.
    """

    def __init__(self, model: PreTrainedModel, narrow: torch.dtype | None = None) -> None:
        # The three families name their parts alike; nothing types them.
        body: Any = model.base_model
        config = model.config
        self._head_dim: int = body.layers[0].self_attn.head_dim
        self._groups = config.num_attention_heads // config.num_key_value_heads
        self._kv_heads: int = config.num_key_value_heads
        self._embedding: Tensor = body.embed_tokens.weight
        self._rotary: nn.Module = body.rotary_emb
        self._norm, self._head = _norm(body.norm), _linear(model.get_output_embeddings(), narrow)
        self._eps = self._embedding.new_tensor(config.rms_norm_eps)
        plain = self._embedding.device.type == "cpu" and self._embedding.dtype in WIDE and config.hidden_act in ("silu", "swish")
        self._parts = _all_parts(body.layers) if plain else None
        self._layers = [_layer(layer, narrow) for layer in body.layers]
        self._cos_PD = self._sin_PD = self._embedding.new_zeros(0, self._head_dim)

    @staticmethod
    def fits(model: PreTrainedModel) -> bool:
        """Whether a model is built the way this class expects; whether the logits are its own must still be tried."""
        if type(model) not in FAMILIES or not keeps_plain_kv(model):
            return False
        rotary: Any = model.base_model.rotary_emb
        return model.config._attn_implementation in ("sdpa", TREE_ATTENTION) and rotary.rope_type in STEADY_ROTATIONS

    def logits(self, token_B: Tensor, position_B: Tensor, seen_BL: Tensor | None, cache: Cache) -> Tensor:
        """Logits (B, V) after one token per row, whose keys and values join `cache`, made of `BufferedLayer`s.

        `seen_BL` marks the columns that are real, the new one included (None: all are).
        """
        width = cache.get_seq_length() + 1
        self.reserve(width)
        buffers = buffered(cache)
        if self._parts is None:
            return self.logits_into(token_B, position_B, seen_BL, buffers)
        x_BD, cos, sin, seen = self._inputs(token_B, position_B, seen_BL)
        caches = [(kv.key_buffer, kv.value_buffer) for kv in buffers]
        x_BD = all_layers(x_BD, cos, sin, seen, self._parts, caches, width - 1, self._head_dim, self._eps)
        for kv in buffers:
            kv.length = width
        return self._head(self._norm(x_BD))

    def logits_into(self, token_B: Tensor, position_B: Tensor, seen_BL: Tensor | None, caches: Sequence[Column]) -> Tensor:
        """`logits` by operations on tensors alone: whoever holds keys and values says where they go. `reserve` the positions first."""
        x_BD, cos, sin, seen = self._inputs(token_B, position_B, seen_BL)
        for layer, kv in zip(self._layers, caches, strict=True):
            x_BD = x_BD + layer.out(self._attend(layer, kv, layer.norm(x_BD), cos, sin, seen))
            h_BD = layer.mlp_norm(x_BD)
            x_BD = x_BD + layer.down(layer.activation(layer.gate(h_BD)) * layer.up(h_BD))
        return self._head(self._norm(x_BD))

    def reserve(self, positions: int) -> None:
        """Have the rotations of so many positions at hand."""
        if positions > len(self._cos_PD):
            self._tabulate(2 * positions)

    @property
    def tables(self) -> tuple[Tensor, Tensor]:
        """Those rotations, (P, d): cosines and sines."""
        return self._cos_PD, self._sin_PD

    def _inputs(self, token_B: Tensor, position_B: Tensor, seen_BL: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Embeddings (B, D), rotations (B, 1, d) for all heads alike, and what is added to the scores."""
        x_BD = F.embedding(token_B, self._embedding)
        cos, sin = F.embedding(position_B[:, None], self._cos_PD), F.embedding(position_B[:, None], self._sin_PD)
        if seen_BL is None:
            return x_BD, cos, sin, None
        return x_BD, cos, sin, torch.zeros_like(seen_BL, dtype=x_BD.dtype).masked_fill_(seen_BL == 0, -torch.inf)[:, None, None]

    def _attend(self, layer: _Layer, kv: Column, h_BD: Tensor, cos: Tensor, sin: Tensor, seen: Tensor | None) -> Tensor:
        rows, kv_heads, d = len(h_BD), self._kv_heads, self._head_dim
        q, k = layer.query(h_BD).view(rows, -1, d), layer.key(h_BD).view(rows, kv_heads, d)
        q = q if layer.query_norm is None else layer.query_norm(q)
        k = k if layer.key_norm is None else layer.key_norm(k)
        both = torch.cat([q, k], dim=1)
        # roll(x) * sin is transformers' rotate_half(x) * sin: the table's first half carries the sign.
        both = both * cos + both.roll(d // 2, -1) * sin
        heads = kv_heads * self._groups
        keys, values = kv.append(both[:, heads:], layer.value(h_BD).view(rows, kv_heads, d))
        # The query heads of one key head go in as if they were successive tokens, so that nothing is repeated.
        grouped = both[:, :heads].reshape(rows, kv_heads, self._groups, d).to(keys.dtype)
        return F.scaled_dot_product_attention(grouped, keys, values, attn_mask=seen).reshape(rows, heads * d)

    def _tabulate(self, count: int) -> None:
        """Rotations for so many positions."""
        with torch.no_grad():
            positions = torch.arange(count, device=self._embedding.device)[None]
            cos, sin = self._rotary(self._embedding, positions)
        sign = torch.ones(self._head_dim, dtype=sin.dtype, device=sin.device)
        sign[: self._head_dim // 2] = -1
        self._cos_PD, self._sin_PD = cos[0], sin[0] * sign


def has_plain_layers(model: PreTrainedModel) -> bool:
    """Whether the layers are products of weights alone, without adapters or quantised weights."""
    body: Any = model.base_model
    return _all_parts(body.layers) is not None and type(model.get_output_embeddings()) is nn.Linear


def _layer(layer: Any, narrow: torch.dtype | None) -> _Layer:
    own, mlp = layer.self_attn, layer.mlp
    head_norms = has_head_norms(own)
    return _Layer(
        _norm(layer.input_layernorm),
        _linear(own.q_proj, narrow),
        _linear(own.k_proj, narrow),
        _linear(own.v_proj, narrow),
        _norm(own.q_norm) if head_norms else None,
        _norm(own.k_norm) if head_norms else None,
        _linear(own.o_proj, narrow),
        _norm(layer.post_attention_layernorm),
        _linear(mlp.gate_proj, narrow),
        mlp.act_fn,
        _linear(mlp.up_proj, narrow),
        _linear(mlp.down_proj, narrow),
    )


def _linear(module: Any, narrow: torch.dtype | None) -> Apply:
    """A plain layer's product without the module around it; anything else, such as one with adapters, as it is."""
    if type(module) is not nn.Linear:
        return module
    if narrow is None:
        return partial(F.linear, weight=module.weight, bias=module.bias)
    bias = None if module.bias is None else module.bias.detach().to(narrow)
    return partial(F.linear, weight=module.weight.detach().to(narrow), bias=bias)


def _norm(module: Any) -> Apply:
    if module.weight.device.type == "cpu" and module.weight.dtype in WIDE:
        return partial(root_mean_square_norm, weight=module.weight, eps=module.weight.new_tensor(module.variance_epsilon))
    return partial(_wide_norm, weight=module.weight, eps=module.variance_epsilon)


def _wide_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """torch's norm in the wider of both types: of two types it makes several operations."""
    wide = torch.promote_types(x.dtype, weight.dtype)
    return F.rms_norm(x.to(wide), weight.shape, weight.to(wide), eps)


def _all_parts(layers: Sequence[Any]) -> list[Tensor | None] | None:
    """The layers' tensors in the order of `scripted_layers.LAYER`; None where a layer is more than its tensors say."""
    found: list[Tensor | None] = []
    for layer in layers:
        own, mlp = layer.self_attn, layer.mlp
        linears = {"q": own.q_proj, "k": own.k_proj, "v": own.v_proj, "o": own.o_proj}
        linears |= {"gate": mlp.gate_proj, "up": mlp.up_proj, "down": mlp.down_proj}
        if any(type(linear) is not nn.Linear for linear in linears.values()):
            return None
        parts: dict[str, Tensor | None] = {"norm": layer.input_layernorm.weight, "mlp_norm": layer.post_attention_layernorm.weight}
        parts |= {"q_norm": own.q_norm.weight, "k_norm": own.k_norm.weight} if has_head_norms(own) else {"q_norm": None, "k_norm": None}
        for name, linear in linears.items():
            parts |= {name: linear.weight, f"{name}_bias": linear.bias}
        found += [parts[name] for name in LAYER]
    return found
