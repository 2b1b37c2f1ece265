"""Batched sampling of macro-actions: one call for all rows of a host, caches carried over turns.

Per row the draws depend only on the row's seed. Rows that finish are taken out of the batch once they are half of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import Cache

from collm.errors import NonFiniteLossError
from collm.models.kv import RowCache, assemble, common_prefix, left_pad, select_rows, take_row
from collm.models.sampling import RuleRows, SupportRule, inverse_cdf_sample, support_log_softmax, uniforms
from collm.types import StopReason


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One agent's context to be answered.

    `key` names the conversation, `before` the one it continues, whose cache may be reused (None: none does).
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


@dataclass(frozen=True, slots=True)
class DecodeSpec:
    """What generation needs to know of a policy."""

    rule: SupportRule
    max_new_tokens: int
    stop_ids: frozenset[int]


Forward = Callable[[Tensor, Tensor, Tensor, Cache, Sequence[str]], Tensor]
"""(ids_BT, mask_BL, positions_BT, cache, members) -> logits of the last column (B, V)."""


@dataclass(slots=True)
class _Rows:
    """The live batch; every list and tensor has one entry per live row."""

    index: list[int]
    cache: Cache
    mask_BL: Tensor
    width: int
    position_B: Tensor
    rules: RuleRows
    uniform_BT: Tensor
    greedy_B: Tensor
    done: list[bool]


@dataclass(slots=True)
class _Output:
    ids: list[int] = field(default_factory=list)
    stop: StopReason | None = None
    logprob: float = 0.0
    mass: float = 0.0


@torch.no_grad()
def generate(
    requests: Sequence[GenerationRequest],
    specs: Sequence[DecodeSpec],
    forward: Forward,
    caches: dict[Hashable, RowCache] | None,
    n_layers: int,
    device: torch.device,
) -> list[Generation]:
    """Answer every request. `caches` is read for reusable prefixes and updated; None = keep nothing between calls."""
    rows, logits_BV = _prefill(requests, specs, forward, caches or {}, n_layers, device)
    outputs = [_Output() for _ in requests]
    for step in range(max(spec.max_new_tokens for spec in specs)):
        token_B = _draw(rows, logits_BV, step, requests, outputs)
        _note_stops(rows, token_B, specs, outputs)
        if all(rows.done):
            break
        if sum(rows.done) * 2 >= len(rows.done):
            token_B = _retire(rows, token_B, requests, outputs, caches)
        live_B = torch.tensor([not d for d in rows.done], device=device)
        rows.mask_BL[:, rows.width] = live_B.to(rows.mask_BL)
        rows.width += 1
        logits_BV = forward(
            token_B[:, None],
            rows.mask_BL[:, : rows.width],
            rows.position_B[:, None],
            rows.cache,
            [requests[i].member for i in rows.index],
        )
        rows.position_B = rows.position_B + live_B
    if caches is not None:
        _store(rows, range(len(rows.index)), requests, outputs, caches)
    return [_finished(output) for output in outputs]


def _prefill(
    requests: Sequence[GenerationRequest],
    specs: Sequence[DecodeSpec],
    forward: Forward,
    caches: dict[Hashable, RowCache],
    n_layers: int,
    device: torch.device,
) -> tuple[_Rows, Tensor]:
    stored = [caches.get(r.before) for r in requests]
    # At least one token must be fed to have logits to sample from.
    kept = [
        min(common_prefix(row.ids, r.context_ids), len(r.context_ids) - 1) if row is not None else 0
        for row, r in zip(stored, requests, strict=True)
    ]
    block_BT, block_mask_BT = left_pad([r.context_ids[n:] for r, n in zip(requests, kept, strict=True)], device)
    longest = max(spec.max_new_tokens for spec in specs)
    cache, width = assemble(stored, kept, n_layers, block_BT.shape[1] + longest)
    kept_B = torch.tensor(kept, device=device)
    mask_BL = torch.zeros(len(requests), width + block_BT.shape[1] + longest, dtype=torch.long, device=device)
    mask_BL[:, :width] = torch.arange(width, device=device) >= (width - kept_B)[:, None]
    mask_BL[:, width : width + block_BT.shape[1]] = block_mask_BT
    position_BT = (kept_B[:, None] + block_mask_BT.cumsum(-1) - 1).clamp(min=0)
    width += block_BT.shape[1]
    logits_BV = forward(block_BT, mask_BL[:, :width], position_BT, cache, [r.member for r in requests])
    uniform_BT = np.stack([uniforms(r.seed, longest) for r in requests])
    rows = _Rows(
        index=list(range(len(requests))),
        cache=cache,
        mask_BL=mask_BL,
        width=width,
        position_B=position_BT[:, -1] + 1,
        rules=RuleRows.of([spec.rule for spec in specs], device),
        uniform_BT=torch.from_numpy(uniform_BT).to(device),
        greedy_B=torch.tensor([r.greedy for r in requests], device=device),
        done=[False] * len(requests),
    )
    return rows, logits_BV


def _draw(rows: _Rows, logits_BV: Tensor, step: int, requests: Sequence[GenerationRequest], outputs: list[_Output]) -> Tensor:
    """Sample one token per live row and book its log-probability."""
    logprob_BV, mass_B = support_log_softmax(logits_BV, rules=rows.rules)
    token_B = inverse_cdf_sample(logprob_BV, rows.uniform_BT[:, step])
    # NaN logits push the quantile past the last token; the clamp lets the check below see them.
    token_B = torch.where(rows.greedy_B, logits_BV.argmax(-1), token_B.clamp(max=logits_BV.shape[-1] - 1))
    logprobs = logprob_BV.gather(-1, token_B[:, None])[:, 0].tolist()
    if broken := [i for i, logprob in zip(rows.index, logprobs, strict=True) if not math.isfinite(logprob)]:
        raise NonFiniteLossError(
            f"{requests[broken[0]].member}: its logits are not finite while generating "
            f"({requests[broken[0]].key}); the weights have diverged"
        )
    for i, done, token, logprob, mass in zip(rows.index, rows.done, token_B.tolist(), logprobs, mass_B.tolist(), strict=True):
        if not done:
            outputs[i].ids.append(token)
            outputs[i].logprob += logprob
            outputs[i].mass += mass
    return token_B


def _note_stops(rows: _Rows, token_B: Tensor, specs: Sequence[DecodeSpec], outputs: list[_Output]) -> None:
    for b, (i, token) in enumerate(zip(rows.index, token_B.tolist(), strict=True)):
        if rows.done[b]:
            continue
        if token in specs[i].stop_ids:
            outputs[i].stop = StopReason.EOS
        elif len(outputs[i].ids) >= specs[i].max_new_tokens:
            outputs[i].stop = StopReason.LENGTH
        rows.done[b] = outputs[i].stop is not None


def _retire(
    rows: _Rows, token_B: Tensor, requests: Sequence[GenerationRequest], outputs: list[_Output], caches: dict[Hashable, RowCache] | None
) -> Tensor:
    """Take finished rows out of the batch; their caches are stored for the next turn."""
    if caches is not None:
        _store(rows, [b for b, done in enumerate(rows.done) if done], requests, outputs, caches)
    keep = [b for b, done in enumerate(rows.done) if not done]
    index_B = torch.tensor(keep, device=token_B.device)
    select_rows(rows.cache, index_B)
    rows.index = [rows.index[b] for b in keep]
    rows.mask_BL, rows.position_B, rows.rules = rows.mask_BL[index_B], rows.position_B[index_B], rows.rules.select(index_B)
    rows.uniform_BT, rows.greedy_B, rows.done = rows.uniform_BT[index_B], rows.greedy_B[index_B], [False] * len(keep)
    return token_B[index_B]


def _store(
    rows: _Rows, which: Sequence[int], requests: Sequence[GenerationRequest], outputs: list[_Output], caches: dict[Hashable, RowCache]
) -> None:
    for b in which:
        i = rows.index[b]
        # The last sampled token was never fed, so it has no keys yet.
        fed = requests[i].context_ids + tuple(outputs[i].ids[:-1])
        caches[requests[i].key] = take_row(rows.cache, b, rows.mask_BL[b, : rows.width], fed)


def _finished(output: _Output) -> Generation:
    if output.stop is None:
        raise AssertionError("a row left generation without a stop reason")
    return Generation(tuple(output.ids), output.stop, output.logprob, output.mass / len(output.ids))
