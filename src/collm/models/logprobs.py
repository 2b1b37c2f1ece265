"""Log-probabilities and entropies at response positions only, never all tokens x vocabulary at once.

Hidden states are gathered at the positions that predict a response token. A linear head without truncation runs in blocks
of the vocabulary (`fused_head.py`). top-k and top-p need whole rows, and so does a head that is more than a linear layer:
then head and log-softmax run on a chunk of positions at a time, recomputed in the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from collm.models.fused_head import LinearHead
from collm.models.sampling import RuleRows, support_log_softmax

CHUNK_ELEMENTS = {"cpu": 1 << 23, "cuda": 1 << 25}
"""Largest positions x vocabulary held at once: 32 MB in fp32, or what keeps a GPU busy (128 MB)."""


@dataclass(frozen=True, slots=True)
class TokenStats:
    """Per response token: log-probability and entropy in nats under the support rule, and the mass the rule kept.

    The entropy may be NaN where it was not asked for.
    """

    logprob_T: Tensor
    entropy_T: Tensor
    kept_mass_T: Tensor


def token_stats(
    hidden_TD: Tensor,
    head: Callable[[Tensor], Tensor],
    targets_T: Tensor,
    rules: RuleRows,
    vocabulary: int,
    entropy: bool = True,
    chunks_of: str | None = None,
) -> TokenStats:
    """Statistics of `targets_T` (T,) predicted from `hidden_TD` (T, D); `rules` holds one row per position.

    Gradients flow through the log-probabilities and the entropies. Chunks are as large as on the device `chunks_of` ("cpu",
    "cuda"; None: the tensors' own).
    """
    if isinstance(head, LinearHead) and not rules.truncates:
        logprob_T, entropy_T = head.statistics(hidden_TD, targets_T, rules.temperature_B if rules.scales else None, entropy)
        return TokenStats(logprob_T, entropy_T, torch.ones_like(logprob_T))
    chunk = max(1, CHUNK_ELEMENTS[chunks_of or hidden_TD.device.type] // vocabulary)
    recompute = torch.is_grad_enabled() and hidden_TD.shape[0] > chunk
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for start in range(0, hidden_TD.shape[0], chunk):
        index_T = torch.arange(start, min(start + chunk, hidden_TD.shape[0]), device=hidden_TD.device)
        args = (hidden_TD[index_T], head, targets_T[index_T], rules.select(index_T))
        parts.append(checkpoint(_chunk_stats, *args, use_reentrant=False) if recompute else _chunk_stats(*args))  # pyright: ignore
    logprob_T, entropy_T, kept_T = (torch.cat(column) for column in zip(*parts, strict=True))
    return TokenStats(logprob_T, entropy_T, kept_T)


def _chunk_stats(hidden_TD: Tensor, head: Callable[[Tensor], Tensor], targets_T: Tensor, rules: RuleRows) -> tuple[Tensor, Tensor, Tensor]:
    logprob_TV, kept_T = support_log_softmax(head(hidden_TD), rules, targets_T)
    # 0 * -inf outside the support is a NaN; those tokens contribute nothing to the entropy.
    entropy_T = -(logprob_TV.exp() * logprob_TV.masked_fill(torch.isinf(logprob_TV), 0.0)).sum(-1)
    return logprob_TV.gather(-1, targets_T[:, None])[:, 0], entropy_T, kept_T
