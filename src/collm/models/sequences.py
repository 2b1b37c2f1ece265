"""From samples (context, response) to padded micro-batches.

With `history: full` the context of a turn begins with the whole of the turn before it. Such samples are merged into
one sequence with several response spans, so that an episode costs one forward pass over its longest history instead
of one per turn. Sequences are right-padded: under causal attention padding that follows a token cannot touch it, so no
padding id is ever compared with anything (pad may equal EOS) and no mask is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class PolicySample:
    """One agent's macro-action to be scored or trained on; `data` holds the numbers its loss reads."""

    context_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    data: Mapping[str, float]
    origin: str
    """Where it came from, for error messages: episode id and turn."""
    token_data: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Numbers the loss reads, one per response token."""
    weight: float = 1.0
    """What its loss is multiplied by in the sum that is differentiated."""
    features: tuple[float, ...] = ()
    """m_t as numbers, where the policy has a value head that reads them."""


@dataclass(frozen=True, slots=True)
class ValueInput:
    """One token sequence read by a critic, with the positions at which a value is wanted."""

    ids: tuple[int, ...]
    positions: tuple[int, ...]
    features: tuple[tuple[float, ...], ...]
    """m_t as numbers, one tuple per position (empty tuples where the critic reads no features)."""
    data: Mapping[str, tuple[float, ...]]
    """Numbers the value loss reads, one per position."""
    origin: str
    weights: tuple[float, ...] | None = None
    """What the loss of each position is multiplied by; None = 1 for all."""
    dropped_turns: int = 0
    """How many of the oldest turns did not fit."""


@dataclass(frozen=True, slots=True)
class TreeLayout:
    """How one row of tokens branches (`prefix_tree.py`): segments that lie one after the other, each continuing its parent."""

    lengths: tuple[int, ...]
    """Tokens of each segment."""
    parents: tuple[int, ...]
    """Of each segment the earlier one that it continues; -1 at a root."""
    positions: tuple[int, ...]
    """Of each token its distance from the root."""
    before: tuple[int, ...]
    """The column of the token that each response follows."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where states are read in a padded batch (B, T): P places, at most Q of them in one row."""

    row_P: Tensor
    column_P: Tensor
    slot_P: Tensor
    """The how-manieth of its row each is."""
    column_BQ: Tensor
    """The columns row by row, filled up with 0."""

    @classmethod
    def of(cls, rows: Sequence[int], columns: Sequence[int], n_rows: int, device: torch.device) -> Places:
        """Places (row, column) in any order."""
        by_row: list[list[int]] = [[] for _ in range(n_rows)]
        slots: list[int] = []
        for row, column in zip(rows, columns, strict=True):
            slots.append(len(by_row[row]))
            by_row[row].append(column)
        most = max(map(len, by_row))
        padded = [[*own, *(0,) * (most - len(own))] for own in by_row]
        row_P, column_P, slot_P, column_BQ = (torch.tensor(x, device=device) for x in (rows, columns, slots, padded))
        return cls(row_P, column_P, slot_P, column_BQ)


@dataclass(slots=True)
class MergedSequence:
    """Token ids with the response spans [start, stop) in them; `samples` are indices into the list that was merged."""

    ids: tuple[int, ...]
    spans: list[tuple[int, int]]
    samples: list[int]
    tree: TreeLayout | None = None
    """Where the row is not one text but branches."""

    def columns_before(self) -> tuple[int, ...]:
        """Of each span the column whose state predicts its first token."""
        return self.tree.before if self.tree is not None else tuple(start - 1 for start, _ in self.spans)


def merge_samples(samples: Sequence[PolicySample]) -> list[MergedSequence]:
    """Merge samples whose context continues an earlier sample of the list; order of the result follows the input.

    A sample may continue one already merged sequence only; two branches of one history stay apart.
    """
    open_sequences: dict[tuple[int, ...], MergedSequence] = {}
    merged: list[MergedSequence] = []
    by_length = sorted(range(len(samples)), key=lambda i: (len(samples[i].context_ids), i))
    lengths: set[int] = set()
    for i in by_length:
        context, response = samples[i].context_ids, samples[i].response_ids
        parent = None
        for length in sorted((n for n in lengths if n <= len(context)), reverse=True):
            parent = open_sequences.pop(context[:length], None)
            if parent is not None:
                break
        sequence = parent or MergedSequence((), [], [])
        if parent is None:
            merged.append(sequence)
        sequence.ids = context + response
        sequence.spans.append((len(context), len(context) + len(response)))
        sequence.samples.append(i)
        open_sequences[sequence.ids] = sequence
        lengths.add(len(sequence.ids))
    return merged


Item = TypeVar("Item")


def micro_batches(items: Sequence[Item], length: Callable[[Item], int], token_budget: int) -> Iterator[list[Item]]:
    """Batches of similar length whose padded size stays within the budget (a longer item gets a batch of its own)."""
    batch: list[Item] = []
    longest = 0
    for item in sorted(items, key=length):
        longest = max(longest, length(item))
        if batch and longest * (len(batch) + 1) > token_budget:
            yield batch
            batch, longest = [], length(item)
        batch.append(item)
    if batch:
        yield batch


def filled_batches(items: Sequence[Item], length: Callable[[Item], int], token_budget: int) -> Iterator[list[Item]]:
    """Batches of items that lie one after the other, without padding: filled in order up to the budget."""
    batch: list[Item] = []
    total = 0
    for item in items:
        if batch and total + length(item) > token_budget:
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += length(item)
    if batch:
        yield batch


def right_pad(rows: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Token ids (B, T). The filler is id 0 and is never read."""
    width = max(len(row) for row in rows)
    ids_BT = torch.zeros(len(rows), width, dtype=torch.long)
    for b, row in enumerate(rows):
        ids_BT[b, : len(row)] = torch.tensor(row, dtype=torch.long)
    return ids_BT.to(device)
