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
    """Whether any row cuts tokens off."""
    scales: bool
    """Whether any row's temperature is not 1."""

    @classmethod
    def of(cls, rules: Sequence[SupportRule], device: torch.device) -> RuleRows:
        return cls(
            temperature_B=torch.tensor([r.temperature for r in rules], dtype=torch.float64, device=device),
            top_p_B=torch.tensor([r.top_p for r in rules], dtype=torch.float64, device=device),
            top_k_B=torch.tensor([r.top_k for r in rules], dtype=torch.long, device=device),
            truncates=any(r.truncates for r in rules),
            scales=any(r.temperature != 1 for r in rules),
        )

    @classmethod
    def repeat(cls, rule: SupportRule, count: int, device: torch.device) -> RuleRows:
        """The same rule for `count` rows."""
        one = cls.of([rule], device)
        return cls(one.temperature_B.expand(count), one.top_p_B.expand(count), one.top_k_B.expand(count), one.truncates, one.scales)

    @classmethod
    def join(cls, parts: Sequence[RuleRows]) -> RuleRows:
        """One after the other."""
        return cls(
            torch.cat([p.temperature_B for p in parts]),
            torch.cat([p.top_p_B for p in parts]),
            torch.cat([p.top_k_B for p in parts]),
            any(p.truncates for p in parts),
            any(p.scales for p in parts),
        )

    def select(self, index: Tensor) -> RuleRows:
        return RuleRows(self.temperature_B[index], self.top_p_B[index], self.top_k_B[index], self.truncates, self.scales)


def support_mask(scaled_BV: Tensor, rules: RuleRows) -> Tensor:
    """Boolean (B, V): the tokens that top-k, then top-p leave in the support. Ties at the edge go to the lower id."""
    sorted_BV, order_BV = scaled_BV.sort(dim=-1, descending=True, stable=True)
    rank_V = torch.arange(scaled_BV.shape[-1], device=scaled_BV.device)
    k_B = rules.top_k_B.masked_fill(rules.top_k_B <= 0, scaled_BV.shape[-1])
    sorted_BV = sorted_BV.masked_fill(rank_V >= k_B[:, None], -torch.inf)
    probs_BV = sorted_BV.softmax(-1)
    mass_before_BV = probs_BV.cumsum(-1) - probs_BV
    # Rounding lets the cumulated mass reach 1 before the last token: top_p = 1 must still cut nothing.
    top_p_B = rules.top_p_B.masked_fill(rules.top_p_B >= 1, torch.inf)
    keep_sorted_BV = (mass_before_BV < top_p_B[:, None]) & torch.isfinite(sorted_BV)
    return torch.zeros_like(keep_sorted_BV).scatter(-1, order_BV, keep_sorted_BV)


def support_log_softmax(logits_BV: Tensor, rules: RuleRows, chosen_B: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Log-probabilities over the support rule, in at least fp32.

    `chosen_B` (B,) is always counted as inside the support: the sampled token was in it by construction, and the
    last-bit differences between a cached and a teacher-forced pass must not put it outside.
    Returns log-probabilities (B, V), -inf outside the support, and the kept mass (B,) before renormalisation.
    """
    scaled_BV = _scaled(logits_BV, rules)
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
    return _at_quantile(logprobs_BV.exp(), uniform_B)[0]


def draw(logits_BV: Tensor, rules: RuleRows, uniform_B: Tensor, greedy_B: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """One token per row by the support rule: ids (B,), their log-probabilities under it and the mass it kept.

    `greedy_B` marks rows that take the likeliest token instead (None: no row does). Where logits are NaN, so is the
    log-probability; the id is then any.
    """
    if rules.truncates:
        logprob_BV, mass_B = support_log_softmax(logits_BV, rules)
        token_B = _taken(inverse_cdf_sample(logprob_BV, uniform_B), logits_BV, greedy_B)
        return token_B, logprob_BV.gather(-1, token_B[:, None])[:, 0], mass_B
    scaled_BV = _scaled(logits_BV, rules)
    # Weights relative to the likeliest token: one pass less over the vocabulary than normalising first.
    top_B = scaled_BV.amax(-1)
    token_B, total_B = _at_quantile((scaled_BV - top_B[:, None]).exp_(), uniform_B)
    token_B = _taken(token_B, logits_BV, greedy_B)
    logprob_B = scaled_BV.gather(-1, token_B[:, None])[:, 0] - top_B - total_B.log().to(top_B)
    return token_B, logprob_B, torch.ones_like(logprob_B)


def _scaled(logits_BV: Tensor, rules: RuleRows) -> Tensor:
    """Logits over the temperature, in at least fp32."""
    wide = torch.promote_types(logits_BV.dtype, torch.float32)
    return logits_BV.to(wide) / rules.temperature_B[:, None].to(wide) if rules.scales else logits_BV.to(wide)


def _taken(sampled_B: Tensor, logits_BV: Tensor, greedy_B: Tensor | None) -> Tensor:
    return sampled_B if greedy_B is None else torch.where(greedy_B, logits_BV.argmax(-1), sampled_B)


_BLOCK = 512
"""Weights summed in their own precision; the sums are then added up in fp64."""


def _at_quantile(weights_BV: Tensor, uniform_B: Tensor) -> tuple[Tensor, Tensor]:
    """Token ids (B,) at the given quantiles of rows of weights, never one of weight 0; and each row's total, fp64.

    Two levels: blocks by their sums, then tokens within the block. In fp64: over 150,000 tokens an fp32 sum swallows the
    tail, and a parallel one need not be monotone.
    """
    rows, vocabulary = weights_BV.shape
    if vocabulary <= _BLOCK:
        inside_BV = weights_BV.double().cumsum(-1)
        total_B = inside_BV[:, -1]
        quantile_B = _below(uniform_B.to(total_B) * total_B, total_B)
        return torch.searchsorted(inside_BV, quantile_B[:, None], right=True)[:, 0].clamp_(max=vocabulary - 1), total_B
    blocks = vocabulary // _BLOCK
    sums_BK = weights_BV[:, : blocks * _BLOCK].view(rows, blocks, _BLOCK).sum(-1)
    if blocks * _BLOCK < vocabulary:
        sums_BK = torch.cat([sums_BK, weights_BV[:, blocks * _BLOCK :].sum(-1, keepdim=True)], dim=-1)
    # A block's place in the CDF and the CDF within it must agree on which blocks hold nothing: sums of non-negative numbers do.
    blocks_BK = sums_BK.double().cumsum(-1)
    total_B = blocks_BK[:, -1]
    quantile_B = _below(uniform_B.to(total_B) * total_B, total_B)
    block_B = torch.searchsorted(blocks_BK, quantile_B[:, None], right=True).clamp_(max=blocks_BK.shape[1] - 1)
    before_B = (blocks_BK - sums_BK).gather(-1, block_B)[:, 0]
    column_BC = block_B * _BLOCK + torch.arange(min(_BLOCK, vocabulary), device=weights_BV.device)
    inside_BC = weights_BV.gather(-1, column_BC.clamp(max=vocabulary - 1)).double().masked_fill_(column_BC >= vocabulary, 0.0).cumsum_(-1)
    within_B = _below((quantile_B - before_B).clamp_(min=0.0), inside_BC[:, -1])
    offset_B = torch.searchsorted(inside_BC, within_B[:, None], right=True)[:, 0]
    # NaN weights push the quantile past the last token; whoever reads the log-probability sees them.
    return (block_B[:, 0] * _BLOCK + offset_B).clamp_(max=vocabulary - 1), total_B


def _below(quantile_B: Tensor, total_B: Tensor) -> Tensor:
    """Strictly below the total, so that `right=True` in a search skips steps of height 0 and stops at the last real one."""
    return torch.minimum(quantile_B, torch.nextafter(total_B, torch.zeros_like(total_B)))
