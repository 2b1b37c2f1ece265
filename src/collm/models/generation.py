"""Sampling macro-actions for many conversations at once, caches carried over turns.

A `LiveBatch` takes conversations in and hands answers out while others go on: rows that finish leave room for new ones
(continuous batching). Per row the draws depend only on the row's seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from collm.errors import NonFiniteLossError
from collm.models.decode_graph import RecordedStep
from collm.models.kv import RowCache, assemble, common_prefix, left_pad, take_rows
from collm.models.rows import DecodeSpec, Rows, RowState, join_rows, spread_rows
from collm.models.sequences import micro_batches
from collm.types import StopReason

LOOK_EVERY_ON_A_GPU = 8
"""Steps between looks for finished rows where each look waits for the device; what rows draw past their end is thrown away."""

RECORD_AFTER = 8
"""The step of an unchanged batch before which its step is recorded, which takes about three steps' time."""
RECORD_FOR = 16
"""Steps that the batch must still have before it."""


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One agent's context to be answered.

    `key` names the conversation, `before` the one it continues, whose cache is reused and used up: others that continue the
    same one have to be admitted together with it, or read all of their contexts anew (None: it continues none).
    """

    member: str
    key: Hashable
    before: Hashable | None
    context_ids: tuple[int, ...]
    seed: int
    greedy: bool


@dataclass(frozen=True, slots=True)
class Generation:
    """A sampled macro-action."""

    response_ids: tuple[int, ...]
    stop: StopReason
    logprob: float
    """log pi(a|h), nats, under the sampling distribution."""
    kept_mass: float


Answer = tuple[GenerationRequest, Generation]
Forward = Callable[[Tensor, Tensor, Tensor, Cache, Sequence[str]], Tensor]
"""(ids_BT, mask_BL, positions_BT, cache, members) -> logits of the last column (B, V)."""


@dataclass(frozen=True, slots=True)
class Decoder:
    """What a batch needs of its host."""

    forward: Forward
    spec: Callable[[str], DecodeSpec]
    caches: dict[Hashable, RowCache] | None
    """Read for reusable prefixes and updated; None = keep nothing between turns."""
    n_layers: int
    device: torch.device
    prefill_tokens: int
    """Padded tokens read in one pass."""
    record: Callable[[Rows], RecordedStep | None] | None = None
    """Gives a batch's step as a recording, where that can be had (None: steps are never recorded)."""


class LiveBatch:
    """Conversations being answered together. `admit` takes some in, `decode` goes on with all and hands out finished answers."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._rows: Rows | None = None
        self._requests: list[GenerationRequest] = []
        self._handed: list[bool] = []
        self._steps = 0
        self._recorded: RecordedStep | None = None
        self._look_every = 1 if decoder.device.type == "cpu" else LOOK_EVERY_ON_A_GPU
        self.fed_tokens = 0
        """Tokens that the model has read, padding left out."""

    def __len__(self) -> int:
        """Rows whose answers have not been handed out."""
        return self._handed.count(False)

    @torch.no_grad()
    def admit(self, requests: Sequence[GenerationRequest]) -> None:
        """Read the requests' contexts, sample their first tokens and put them beside the rows that are there."""
        chunks = list(self._chunks(requests))
        last_use = {r.before: i for i, chunk in enumerate(chunks) for group in chunk for r in group}
        # It would hold keys and values that are given up while they are joined.
        self._recorded = None
        read: list[tuple[Rows, list[GenerationRequest]]] = []
        for i, chunk in enumerate(chunks):
            read.append(self._prefill(chunk))
            self._forget({r.before for group in chunk for r in group if last_use[r.before] == i})
        if not read:
            return
        parts = self._live_part() + [(rows, torch.arange(len(rows), device=self._decoder.device)) for rows, _ in read]
        waiting = [self._requests[b] for b in self._unhanded()] if self._rows is not None else []
        self._replace(parts[0][0] if len(parts) == 1 else join_rows(parts, self._look_every))
        self._requests = [*waiting, *(request for _, own in read for request in own)]
        self._handed = [False] * len(self._requests)

    @torch.no_grad()
    def decode(self, steps: int | None = None) -> list[Answer]:
        """Sample up to `steps` further tokens for every row (None: until all have ended); the answers finished since the last call.

        Raises NonFiniteLossError naming the member and the conversation where logits are not finite.
        """
        answers: list[Answer] = []
        taken = 0
        while True:
            if taken % self._look_every == 0 or taken == steps:
                answers += self._finished()
            if self._rows is None or taken == steps:
                return answers
            self._step(self._rows)
            taken += 1

    def _step(self, rows: Rows) -> None:
        self._steps += 1
        record = self._decoder.record
        if record is not None and self._steps == RECORD_AFTER and rows.mask_BL.shape[1] - rows.width - self._look_every >= RECORD_FOR:
            self._recorded = record(rows)
        if self._recorded is not None and self._recorded.is_current():
            self._recorded()
            return
        rows.read_column()
        state = rows.state
        logits_BV = self._decoder.forward(
            state.token_B[:, None],
            rows.mask_BL[:, : rows.width],
            state.position_B[:, None],
            rows.cache,
            [r.member for r in self._requests],
        )
        rows.advance(logits_BV)

    def _replace(self, rows: Rows | None) -> None:
        """Go on with other tensors; what was recorded knew those before."""
        self._rows, self._steps, self._recorded = rows, 0, None

    # -- reading contexts ------------------------------------------------------------------------------------------

    def _chunks(self, requests: Sequence[GenerationRequest]) -> Iterable[list[list[GenerationRequest]]]:
        """The requests in groups of equal context, which is read once; groups of similar length are read together."""
        groups: dict[tuple[str, tuple[int, ...]], list[GenerationRequest]] = {}
        for request in requests:
            groups.setdefault((request.member, request.context_ids), []).append(request)
        return micro_batches(list(groups.values()), lambda g: len(g[0].context_ids) - self._known(g[0]), self._decoder.prefill_tokens)

    def _known(self, request: GenerationRequest) -> int:
        """Leading tokens of a context whose keys and values are at hand."""
        stored = self._stored(request)
        # At least one token must be read to have logits to sample from.
        return min(common_prefix(stored.ids, request.context_ids), len(request.context_ids) - 1) if stored is not None else 0

    def _stored(self, request: GenerationRequest) -> RowCache | None:
        return None if self._decoder.caches is None else self._decoder.caches.get(request.before)

    def _forget(self, keys: Iterable[Hashable]) -> None:
        if self._decoder.caches is not None:
            for key in keys:
                self._decoder.caches.pop(key, None)

    def _prefill(self, groups: Sequence[list[GenerationRequest]]) -> tuple[Rows, list[GenerationRequest]]:
        decoder, device = self._decoder, self._decoder.device
        firsts = [group[0] for group in groups]
        specs = [decoder.spec(r.member) for r in firsts]
        kept = [self._known(r) for r in firsts]
        block_BT, block_mask_BT = left_pad([r.context_ids[n:] for r, n in zip(firsts, kept, strict=True)], device)
        room = max(spec.max_new_tokens for spec in specs) + self._look_every
        cache, width = assemble([self._stored(r) for r in firsts], kept, decoder.n_layers, block_BT.shape[1] + room)
        kept_B = torch.tensor(kept, device=device)
        mask_BL = torch.zeros(len(firsts), width + block_BT.shape[1] + room, dtype=torch.long, device=device)
        mask_BL[:, :width] = torch.arange(width, device=device) >= (width - kept_B)[:, None]
        mask_BL[:, width : width + block_BT.shape[1]] = block_mask_BT
        position_BT = (kept_B[:, None] + block_mask_BT.cumsum(-1) - 1).clamp(min=0)
        width += block_BT.shape[1]
        logits_BV = decoder.forward(block_BT, mask_BL[:, :width], position_BT, cache, [r.member for r in firsts])
        self.fed_tokens += sum(len(r.context_ids) - n for r, n in zip(firsts, kept, strict=True))
        requests = [r for group in groups for r in group]
        index = torch.tensor([g for g, group in enumerate(groups) for _ in group], device=device)
        wide = torch.promote_types(logits_BV.dtype, torch.float32)
        state = RowState.begin(
            [specs[g] for g, group in enumerate(groups) for _ in group],
            [r.seed for r in requests],
            [r.greedy for r in requests],
            position_BT[index, -1] + 1,
            wide,
        )
        state.sample(logits_BV[index])
        if len(requests) == len(firsts):
            return Rows(state, cache, mask_BL, width), requests
        return spread_rows(Rows(state, cache, mask_BL, width), index), requests

    # -- handing answers out ---------------------------------------------------------------------------------------

    def _finished(self) -> list[Answer]:
        """The answers of rows that have ended; the rows leave once they are half of the batch."""
        if self._rows is None:
            return []
        done = self._rows.state.done_B.tolist()
        ended = [b for b, (over, handed) in enumerate(zip(done, self._handed, strict=True)) if over and not handed]
        if all(done):
            self._recorded = None
        answers = self._hand_out(self._rows, ended, last=all(done)) if ended else []
        if all(done):
            self._replace(None)
            self._requests, self._handed = [], []
        elif ended and 2 * sum(done) >= len(done):
            self._recorded = None
            self._replace(join_rows(self._live_part(), self._look_every))
            self._requests = [self._requests[b] for b in self._unhanded()]
            self._handed = [False] * len(self._requests)
        return answers

    def _hand_out(self, rows: Rows, which: Sequence[int], last: bool) -> list[Answer]:
        """The answers of these rows, whose keys and values are kept; the `last` ones leave none in the batch."""
        index = torch.tensor(which, device=self._decoder.device)
        columns = (rows.state.count_B, rows.state.ids_BT, rows.state.logprob_BT.double(), rows.state.mass_BT.double())
        counts, ids, logprobs, masses = (c[index].tolist() for c in columns)
        answers: list[Answer] = []
        fed: list[tuple[int, ...]] = []
        for b, n, row_ids, row_logprobs, row_masses in zip(which, counts, ids, logprobs, masses, strict=True):
            request, response = self._requests[b], tuple(row_ids[:n])
            logprob = sum(row_logprobs[:n])
            if not math.isfinite(logprob):
                raise NonFiniteLossError(
                    f"{request.member}: its logits are not finite while generating ({request.key}); the weights have diverged"
                )
            stop = StopReason.EOS if response[-1] in self._decoder.spec(request.member).stop_ids else StopReason.LENGTH
            answers.append((request, Generation(response, stop, logprob, sum(row_masses[:n]) / n)))
            self._handed[b] = True
            # The last sampled token was never read, so it has no keys yet.
            self.fed_tokens += n - 1
            fed.append(request.context_ids + response[:-1])
        if self._decoder.caches is not None:
            kept = take_rows(rows.cache, which, rows.mask_BL[:, : rows.width], fed, emptying=last)
            self._decoder.caches.update({request.key: row for (request, _), row in zip(answers, kept, strict=True)})
        return answers

    def _unhanded(self) -> list[int]:
        return [b for b, handed in enumerate(self._handed) if not handed]

    def _live_part(self) -> list[tuple[Rows, Tensor]]:
        live = self._unhanded()
        return [(self._rows, torch.tensor(live, device=self._decoder.device))] if self._rows is not None and live else []
