"""One support rule for sampling and for scoring.

The behaviour distribution is softmax(logits / temperature), cut to the k likeliest tokens, then to the smallest set
holding `top_p` of the remaining mass, and renormalised. Teacher-forced log-probabilities are taken over the same rule
(method.md section 2), so that rho = pi / pi_old compares two members of the same family.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class SupportRule:
    """Temperature, nucleus mass (1 = off) and top-k (0 = off) of one agent."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0

    @property
    def truncates(self) -> bool:
        return self.top_p < 1.0 or self.top_k > 0


@dataclass(frozen=True, slots=True)
class RuleRows:
    """A support rule per row of a batch, as tensors of shape (B,)."""

    temperature_B: Tensor
    top_p_B: Tensor
    top_k_B: Tensor
    truncates: bool

    @classmethod
    def of(cls, rules: Sequence[SupportRule], device: torch.device) -> RuleRows:
        return cls(
            temperature_B=torch.tensor([r.temperature for r in rules], dtype=torch.float64, device=device),
            top_p_B=torch.tensor([r.top_p for r in rules], dtype=torch.float64, device=device),
            top_k_B=torch.tensor([r.top_k for r in rules], dtype=torch.long, device=device),
            truncates=any(r.truncates for r in rules),
        )

    def select(self, index: Tensor) -> RuleRows:
        return RuleRows(self.temperature_B[index], self.top_p_B[index], self.top_k_B[index], self.truncates)


def support_mask(scaled_BV: Tensor, rules: RuleRows) -> Tensor:
    """Boolean (B, V): the tokens that top-k, then top-p leave in the support. Ties at the edge go to the lower id."""
    sorted_BV, order_BV = scaled_BV.sort(dim=-1, descending=True, stable=True)
    rank_V = torch.arange(scaled_BV.shape[-1], device=scaled_BV.device)
    k_B = torch.where(rules.top_k_B > 0, rules.top_k_B, scaled_BV.shape[-1])
    sorted_BV = sorted_BV.masked_fill(rank_V >= k_B[:, None], -torch.inf)
    probs_BV = sorted_BV.softmax(-1)
    mass_before_BV = probs_BV.cumsum(-1) - probs_BV
    # Rounding lets the cumulated mass reach 1 before the last token: top_p = 1 must still cut nothing.
    top_p_B = torch.where(rules.top_p_B < 1, rules.top_p_B, torch.inf)
    keep_sorted_BV = (mass_before_BV < top_p_B[:, None]) & torch.isfinite(sorted_BV)
    return torch.zeros_like(keep_sorted_BV).scatter(-1, order_BV, keep_sorted_BV)


def support_log_softmax(logits_BV: Tensor, rules: RuleRows, chosen_B: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Log-probabilities over the support rule, in at least fp32.

    `chosen_B` (B,) is always counted as inside the support: the sampled token was in it by construction, and the
    last-bit differences between a cached and a teacher-forced pass must not put it outside.
    Returns log-probabilities (B, V), -inf outside the support, and the kept mass (B,) before renormalisation.
    """
    wide = torch.promote_types(logits_BV.dtype, torch.float32)
    scaled_BV = logits_BV.to(wide) / rules.temperature_B[:, None].to(wide)
    if not rules.truncates:
        full_BV = scaled_BV.log_softmax(-1)
        return full_BV, torch.ones_like(full_BV[:, 0])
    with torch.no_grad():
        keep_BV = support_mask(scaled_BV, rules)
        if chosen_B is not None:
            keep_BV.scatter_(-1, chosen_B[:, None], True)
    cut_BV = scaled_BV.masked_fill(~keep_BV, -torch.inf)
    with torch.no_grad():
        kept_mass_B = (cut_BV.logsumexp(-1) - scaled_BV.logsumexp(-1)).exp()
    return cut_BV.log_softmax(-1), kept_mass_B


def uniforms(seed: int, count: int) -> np.ndarray:
    """`count` numbers in [0, 1) that depend on nothing but the seed: a row's draws do not change with its batch."""
    return np.random.Generator(np.random.Philox(key=seed)).random(count)


def inverse_cdf_sample(logprobs_BV: Tensor, uniform_B: Tensor) -> Tensor:
    """Token ids (B,) at the given quantiles of each row's distribution; a token of probability 0 is never returned."""
    # In fp64: over 150,000 tokens an fp32 sum swallows the tail, and a parallel one need not be monotone.
    cdf_BV = logprobs_BV.double().exp().cumsum(-1)
    total_B = cdf_BV[:, -1]
    # Scaling by the rounded total keeps the quantile below the last step; `right=True` skips steps of height 0.
    quantile_B = torch.minimum(uniform_B.to(total_B) * total_B, torch.nextafter(total_B, torch.zeros_like(total_B)))
    return torch.searchsorted(cdf_BV, quantile_B[:, None], right=True)[:, 0]
