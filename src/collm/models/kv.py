"""Keys and values that live from turn to turn.

A `RowCache` holds one conversation's keys and values on their own, so that conversations may come and go: a batch is
put together from rows at the start of a generate call and taken apart when rows finish. Keys already carry their
rotary positions, so a row may be moved to other columns; attention masks say which columns are real.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer


@dataclass(slots=True)
class RowCache:
    """Keys and values of one conversation's first `len(ids)` tokens: per layer two tensors (heads, T, d)."""

    ids: tuple[int, ...]
    layers: list[tuple[Tensor, Tensor]]


class BufferedLayer(DynamicLayer):
    """A cache layer that writes into a buffer with room to spare, where `DynamicLayer` copies itself at each token."""

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity
        self.length = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        if torch.is_autocast_enabled(self.device.type):
            # What attention reads: kept wider, the whole of it would be cast anew for every token.
            self.dtype = torch.get_autocast_dtype(self.device.type)
        b, heads, _, d = key_states.shape
        self.key_buffer = key_states.new_zeros(b, heads, self.capacity, d, dtype=self.dtype)
        self.value_buffer = value_states.new_zeros(b, heads, self.capacity, value_states.shape[-1], dtype=self.dtype)
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        stop = self.length + key_states.shape[-2]
        self.key_buffer[:, :, self.length : stop] = key_states
        self.value_buffer[:, :, self.length : stop] = value_states
        self.length = stop
        return self.key_buffer[:, :, :stop], self.value_buffer[:, :, :stop]

    def append(self, key_BKd: Tensor, value_BKd: Tensor) -> tuple[Tensor, Tensor]:
        """One more column for every row; all keys and values (B, heads, length, d)."""
        self.key_buffer[:, :, self.length] = key_BKd
        self.value_buffer[:, :, self.length] = value_BKd
        self.length += 1
        return self.key_buffer[:, :, : self.length], self.value_buffer[:, :, : self.length]

    def get_seq_length(self) -> int:
        return self.length

    def open(self, like: BufferedLayer, rows: int, width: int) -> None:
        """Begin with `width` columns of zeros for so many rows, shaped as another layer's."""
        self.lazy_initialization(like.key_buffer[:1].expand(rows, -1, -1, -1), like.value_buffer[:1].expand(rows, -1, -1, -1))
        self.length = width

    def take(self, other: BufferedLayer, index: Tensor, row: int, columns: int) -> None:
        """Copy another layer's rows `index` to rows `row` and on, its last columns to this layer's last."""
        rows = slice(row, row + len(index))
        mine, theirs = slice(self.length - columns, self.length), slice(other.length - columns, other.length)
        self.key_buffer[rows, :, mine] = other.key_buffer[index, :, theirs]
        self.value_buffer[rows, :, mine] = other.value_buffer[index, :, theirs]

    def drop(self) -> None:
        """Give the memory back."""
        self.key_buffer = self.value_buffer = self.key_buffer.new_empty(0)


def buffered(cache: Cache) -> list[BufferedLayer]:
    """The layers of a batch cache. Raises TypeError where one is of another kind."""
    for layer in cache.layers:
        if not isinstance(layer, BufferedLayer):
            raise TypeError(f"a batch cache has a layer of type {type(layer).__name__}")
    return cast("list[BufferedLayer]", cache.layers)


def drop_columns(cache: Cache, count: int) -> None:
    """Forget what was read last."""
    for layer in buffered(cache):
        layer.length -= count


def assemble(rows: Sequence[RowCache | None], kept: Sequence[int], n_layers: int, extra: int) -> tuple[Cache, int]:
    """A batch cache holding the first `kept[b]` tokens of each row, right-aligned, with room for `extra` more columns.

    Returns the cache and its width, the largest of `kept`.
    """
    width = max(kept)
    layers = [BufferedLayer(width + extra) for _ in range(n_layers)]
    sample = next((row for row in rows if row is not None), None)
    if width and sample is not None:
        for i, layer in enumerate(layers):
            key, value = sample.layers[i]
            layer.lazy_initialization(
                key.new_empty(len(rows), key.shape[0], 0, key.shape[-1]), value.new_empty(len(rows), value.shape[0], 0, value.shape[-1])
            )
            for b, (row, n) in enumerate(zip(rows, kept, strict=True)):
                if row is not None and n:
                    layer.key_buffer[b, :, width - n : width] = row.layers[i][0][:, :n]
                    layer.value_buffer[b, :, width - n : width] = row.layers[i][1][:, :n]
            layer.length = width
    return Cache(layers=list(layers)), width


def take_rows(cache: Cache, rows: Sequence[int], mask_BL: Tensor, ids: Sequence[tuple[int, ...]], *, emptying: bool) -> list[RowCache]:
    """Each row's real columns, which `mask_BL` marks, as a cache of its own; `ids` are the tokens that they hold.

    With `emptying` the batch's own are given up layer by layer, so that no more than one layer exists twice.
    """
    columns = [mask_BL[b].nonzero()[:, 0] for b in rows]
    for found, own in zip(columns, ids, strict=True):
        if len(found) != len(own):
            raise AssertionError(f"{len(found)} cached columns for {len(own)} tokens")
    taken = [RowCache(own, []) for own in ids]
    for layer in buffered(cache):
        for row, b, found in zip(taken, rows, columns, strict=True):
            row.layers.append((layer.key_buffer[b][:, found], layer.value_buffer[b][:, found]))
        if emptying:
            layer.drop()
    return taken


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many leading tokens two id sequences share."""
    limit = min(len(a), len(b))
    if a[:limit] == b[:limit]:
        return limit
    return next(i for i in range(limit) if a[i] != b[i])


def join_caches(parts: Sequence[tuple[Cache, Tensor, int]], width: int, capacity: int) -> Cache:
    """One batch cache of `width` columns out of the last columns of several: (cache, rows to take, columns to take) each.

    Columns are right-aligned. The parts are emptied layer by layer, so that no more than one layer exists twice.
    """
    layers: list[BufferedLayer] = []
    for old_layers in zip(*(cache.layers for cache, _, _ in parts), strict=True):
        joined = BufferedLayer(capacity)
        row = 0
        for (_, index, length), old in zip(parts, old_layers, strict=True):
            if not isinstance(old, BufferedLayer):
                raise TypeError(f"a batch cache has a layer of type {type(old).__name__}")
            if row == 0:
                joined.open(old, sum(len(i) for _, i, _ in parts), width)
            joined.take(old, index, row, length)
            row += len(index)
            old.drop()
        layers.append(joined)
    return Cache(layers=list(layers))


def left_pad(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids and mask (B, T), right-aligned."""
    width = max(len(row) for row in rows)
    ids_BT = torch.zeros(len(rows), width, dtype=torch.long)
    mask_BT = torch.zeros(len(rows), width, dtype=torch.long)
    for b, row in enumerate(rows):
        ids_BT[b, width - len(row) :] = torch.tensor(row, dtype=torch.long)
        mask_BT[b, width - len(row) :] = 1
    return ids_BT.to(device), mask_BT.to(device)
