"""What generation allocates, by playing its steps on fake tensors: prefill, decoding, sampling and the key-value cache.

The order of `collm.models.generation`: the batch's cache is a buffer with room for the whole answer; each row that
finishes is copied out of it for the next turn, and given back when that has been read into a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers.cache_utils import Cache

from collm.config.schema import LoraConfig
from collm.models.kv import BufferedLayer, assemble
from collm.models.loading import keeps_plain_kv
from collm.models.sampling import RuleRows, SupportRule, draw
from collm.planning.architecture import Architecture
from collm.planning.depth import linear_in_depth
from collm.planning.fake_host import FakeHost
from collm.planning.live_bytes import LiveBytes


@dataclass(frozen=True, slots=True)
class Generator:
    """A host's model as generation sees it; `loras` are the adapters of its policies, in order of their rows."""

    architecture: Architecture
    dtype: torch.dtype
    loras: tuple[LoraConfig, ...]
    on_gpu: bool
    """Compute in bf16; casts of fp32 weights are kept from step to step."""


@cache
def cache_bytes_per_token(generator: Generator) -> int:
    """Keys and values of one token of one row, over all layers."""
    return linear_in_depth(generator.architecture, lambda depth: _cache_bytes(generator, depth))


@cache
def keeps_rows(generator: Generator) -> bool:
    """Whether conversations' keys and values are kept from turn to turn."""
    return keeps_plain_kv(generator.architecture.on_meta("causal", generator.dtype, depth=1))


@cache
def prefill_peak(generator: Generator, rows: int, tokens: int) -> int:
    """Most bytes beside weights and cache while `rows` prompts of `tokens` are read."""
    return linear_in_depth(generator.architecture, lambda depth: _pass_peak(generator, rows, 0, tokens, depth))


@cache
def decode_peak(generator: Generator, rows: int, tokens: int) -> int:
    """Most bytes beside weights and cache while one token is decoded onto `tokens` cached ones."""
    return linear_in_depth(generator.architecture, lambda depth: _pass_peak(generator, rows, tokens, 1, depth))


@cache
def sampling_peak(rows: int, vocabulary: int, dtype: torch.dtype, rule: SupportRule) -> int:
    """Most bytes while a token is drawn for every row, its logits included."""
    with FakeTensorMode(), LiveBytes() as meter, torch.no_grad():
        logits_BV = torch.zeros(rows, vocabulary, dtype=dtype)
        draw(logits_BV, RuleRows.of([rule] * rows, torch.device("cpu")), torch.zeros(rows, dtype=torch.float64), None)
    return meter.peak


def _cache_bytes(generator: Generator, depth: int) -> int:
    host = _generating_host(generator, depth)
    with host.mode, torch.no_grad():
        cache = _read(host, 1, 4, 0, len(generator.loras))
    return _buffer_bytes(cache) // 4


def _pass_peak(generator: Generator, rows: int, before: int, tokens: int, depth: int) -> int:
    host = _generating_host(generator, depth)
    policies = len(generator.loras)
    with host.mode, torch.no_grad(), host.passes.autocast():
        cache = _read(host, rows, before, tokens, policies) if before else _empty(host, rows, tokens)
        held = [t for layer in cache.layers if isinstance(layer, BufferedLayer) and layer.is_initialized for t in layer_buffers(layer)]
        with LiveBytes([*host.held(), *held]) as meter:
            _step(host, cache, rows, before, tokens, policies)
    made = 0 if before else _buffer_bytes(cache)
    return meter.peak - made


def _generating_host(generator: Generator, depth: int) -> FakeHost:
    return FakeHost(
        generator.architecture,
        "causal",
        generator.dtype,
        depth,
        generator.loras,
        bf16=generator.on_gpu,
        checkpointing=False,
        use="generate",
    )


def _empty(host: FakeHost, rows: int, tokens: int) -> Cache:
    return assemble([None] * rows, [0] * rows, host.model.config.get_text_config().num_hidden_layers, tokens)[0]


def _read(host: FakeHost, rows: int, tokens: int, room: int, policies: int) -> Cache:
    """A cache that holds `tokens` of each row, with room for more."""
    cache = _empty(host, rows, tokens + room)
    _step(host, cache, rows, 0, tokens, policies)
    return cache


def _step(host: FakeHost, cache: Cache, rows: int, before: int, tokens: int, policies: int) -> None:
    if host.switch is not None:
        host.switch.use_rows([f"member_{b % policies}" for b in range(rows)])
    ids_BT = torch.zeros(rows, tokens, dtype=torch.long)
    mask_BL = torch.ones(rows, before + tokens, dtype=torch.long)
    positions_BT = torch.arange(before, before + tokens).expand(rows, tokens)
    host.passes.last_logits(ids_BT, mask_BL, positions_BT, cache)


def layer_buffers(layer: BufferedLayer) -> tuple[torch.Tensor, torch.Tensor]:
    """A cache layer's keys and values."""
    return layer.key_buffer, layer.value_buffer


def _buffer_bytes(cache: Cache) -> int:
    layers = [layer for layer in cache.layers if isinstance(layer, BufferedLayer)]
    return sum(t.untyped_storage().nbytes() for layer in layers for t in layer_buffers(layer))
