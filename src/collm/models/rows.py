"""The rows that are being decoded together, as tensors: sampling a token for each, and taking rows out or putting some in.

All that a step needs stays on the device; the host reads it only when rows are looked through for finished ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import Cache

from collm.models.kv import join_caches
from collm.models.sampling import RuleRows, SupportRule, draw, uniforms


@dataclass(frozen=True, slots=True)
class DecodeSpec:
    """What generation needs to know of a policy."""

    rule: SupportRule
    max_new_tokens: int
    stop_ids: frozenset[int]


@dataclass(slots=True)
class RowState:
    """Per row of a batch what was sampled so far and how to go on. T is the longest response any row may give.

    The sampled ids and their statistics have one column more than T: what a finished row draws goes there.
    """

    token_B: Tensor
    """Sampled last and not read by the model yet."""
    position_B: Tensor
    """Where that token stands in its own text."""
    count_B: Tensor
    """Tokens sampled so far."""
    done_B: Tensor
    rules: RuleRows
    greedy_B: Tensor
    uniform_BT: Tensor
    limit_B: Tensor
    stop_BS: Tensor
    """The ids that end a row's response, filled up with -1."""
    ids_BT: Tensor
    logprob_BT: Tensor
    mass_BT: Tensor
    any_greedy: bool

    @classmethod
    def begin(
        cls, specs: Sequence[DecodeSpec], seeds: Sequence[int], greedy: Sequence[bool], position_B: Tensor, wide: torch.dtype
    ) -> RowState:
        """Rows whose prompts were read and that have sampled nothing yet; `wide` is the type of their log-probabilities."""
        device, rows = position_B.device, len(specs)
        longest, most_stops = max(s.max_new_tokens for s in specs), max(1, *(len(s.stop_ids) for s in specs))
        stops = [sorted(s.stop_ids) + [-1] * (most_stops - len(s.stop_ids)) for s in specs]
        uniform_BT = np.stack([uniforms(seed, longest) for seed in seeds])
        return cls(
            token_B=torch.zeros(rows, dtype=torch.long, device=device),
            position_B=position_B,
            count_B=torch.zeros(rows, dtype=torch.long, device=device),
            done_B=torch.zeros(rows, dtype=torch.bool, device=device),
            rules=RuleRows.of([s.rule for s in specs], device),
            greedy_B=torch.tensor(greedy, device=device),
            uniform_BT=torch.from_numpy(uniform_BT).to(device),
            limit_B=torch.tensor([s.max_new_tokens for s in specs], device=device),
            stop_BS=torch.tensor(stops, device=device),
            ids_BT=torch.zeros(rows, longest + 1, dtype=torch.long, device=device),
            logprob_BT=torch.zeros(rows, longest + 1, dtype=wide, device=device),
            mass_BT=torch.zeros(rows, longest + 1, dtype=wide, device=device),
            any_greedy=any(greedy),
        )

    @property
    def longest(self) -> int:
        """T."""
        return self.uniform_BT.shape[1]

    def sample(self, logits_BV: Tensor) -> None:
        """Draw each row's next token and note which rows end with it. In place, where a recorded step finds it (`decode_graph.py`)."""
        last = self.longest - 1
        uniform_B = self.uniform_BT.gather(1, self.count_B.clamp(max=last)[:, None])[:, 0]
        token_B, logprob_B, mass_B = draw(logits_BV, self.rules, uniform_B, self.greedy_B if self.any_greedy else None)
        place_B1 = self.count_B.masked_fill(self.done_B, last + 1)[:, None]
        self.ids_BT.scatter_(1, place_B1, token_B[:, None])
        self.logprob_BT.scatter_(1, place_B1, logprob_B[:, None].to(self.logprob_BT))
        self.mass_BT.scatter_(1, place_B1, mass_B[:, None].to(self.mass_BT))
        self.count_B.add_(~self.done_B)
        self.done_B.logical_or_((token_B[:, None] == self.stop_BS).any(-1)).logical_or_(self.count_B >= self.limit_B)
        self.token_B.copy_(token_B)

    def select(self, index: Tensor) -> RowState:
        """Only these rows, in this order."""
        return RowState(
            self.token_B[index],
            self.position_B[index],
            self.count_B[index],
            self.done_B[index],
            self.rules.select(index),
            self.greedy_B[index],
            self.uniform_BT[index],
            self.limit_B[index],
            self.stop_BS[index],
            self.ids_BT[index],
            self.logprob_BT[index],
            self.mass_BT[index],
            self.any_greedy,
        )

    @classmethod
    def join(cls, parts: Sequence[RowState]) -> RowState:
        """One after the other."""
        longest = max(p.longest for p in parts)

        def cat(*columns: Tensor) -> Tensor:
            return torch.cat(columns)

        def wider(columns: Sequence[Tensor], width: int, filler: float = 0) -> Tensor:
            return torch.cat([torch.nn.functional.pad(c, (0, width - c.shape[1]), value=filler) for c in columns])

        def results(columns: Sequence[Tensor]) -> Tensor:
            # The column for what finished rows draw is the last one: it moves, and what it holds is nobody's.
            return wider(columns, longest + 1)

        return cls(
            cat(*(p.token_B for p in parts)),
            cat(*(p.position_B for p in parts)),
            cat(*(p.count_B for p in parts)),
            cat(*(p.done_B for p in parts)),
            RuleRows.join([p.rules for p in parts]),
            cat(*(p.greedy_B for p in parts)),
            wider([p.uniform_BT for p in parts], longest),
            cat(*(p.limit_B for p in parts)),
            wider([p.stop_BS for p in parts], max(p.stop_BS.shape[1] for p in parts), -1),
            results([p.ids_BT for p in parts]),
            results([p.logprob_BT for p in parts]),
            results([p.mass_BT for p in parts]),
            any(p.any_greedy for p in parts),
        )


@dataclass(slots=True)
class Rows:
    """A batch being decoded: the rows' state, their keys and values, and which columns of these are real."""

    state: RowState
    cache: Cache
    mask_BL: Tensor
    """1 = real; L is the cache's capacity."""
    width: int
    """Columns in use."""

    def __len__(self) -> int:
        return len(self.state.token_B)

    def read_column(self) -> None:
        """Make a column for the tokens that are read next; those of finished rows are not real."""
        self.mask_BL[:, self.width] = ~self.state.done_B
        self.width += 1

    def advance(self, logits_BV: Tensor) -> None:
        """The model has read the column: move on and sample."""
        self.state.position_B.add_(~self.state.done_B)
        self.state.sample(logits_BV)


def join_rows(parts: Sequence[tuple[Rows, Tensor]], spare: int) -> Rows:
    """Rows picked by index out of several batches, as one batch; the parts' caches are used up.

    Columns that none of them needs are left out; there is room for `spare` columns more than rows may still need.
    """
    states = [rows.state.select(index) for rows, index in parts]
    masks = [rows.mask_BL[index, : rows.width] for rows, index in parts]
    lengths = [_real_width(mask) for mask in masks]
    width = max(lengths)
    state = RowState.join(states)
    capacity = width + int((state.limit_B - state.count_B).max()) + spare
    mask_BL = masks[0].new_zeros(len(state.token_B), capacity)
    row = 0
    for mask, length in zip(masks, lengths, strict=True):
        mask_BL[row : row + len(mask), width - length : width] = mask[:, mask.shape[1] - length :]
        row += len(mask)
    picked = [(rows.cache, index, length) for (rows, index), length in zip(parts, lengths, strict=True)]
    return Rows(state, join_caches(picked, width, capacity), mask_BL, width)


def spread_rows(read: Rows, index: Tensor) -> Rows:
    """The keys and values of contexts that were read once, for every row that answers one; `read.state` has those rows already."""
    capacity, width = read.mask_BL.shape[1], read.width
    return Rows(read.state, join_caches([(read.cache, index, width)], width, capacity), read.mask_BL[index], width)


def _real_width(mask_BT: Tensor) -> int:
    """Columns from the first that is real in any row."""
    used = mask_BT.any(0).nonzero()
    return mask_BT.shape[1] - int(used[0]) if len(used) else 0
