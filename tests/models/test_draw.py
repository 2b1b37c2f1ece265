"""One draw over a large vocabulary: blocks first, then tokens within the block, against the CDF added up exactly."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from collm.models.sampling import RuleRows, SupportRule, _at_quantile, draw

CPU = torch.device("cpu")
LAST = 1 - 2**-53
"""The largest number below 1."""
widths = st.one_of(st.integers(513, 2600), st.sampled_from([1, 2, 511, 512, 513, 1023, 1024, 1025, 2048]))
quantiles = st.one_of(st.floats(0, LAST), st.sampled_from([0.0, LAST]))


def whole_numbers(width: int, kind: str, seed: int) -> list[int]:
    """Weights whose sums fp32 holds exactly; at least one is not zero."""
    generator = torch.Generator().manual_seed(seed)
    found = torch.randint(0, 1000, (width,), generator=generator)
    if kind == "sparse":
        found[torch.rand(width, generator=generator) < 0.99] = 0
    if kind == "empty blocks":
        found[: width // 3] = 0
        found[width // 2 :] = 0
    if kind == "peak":
        found[:] = 0
        found[int(torch.randint(width, (1,), generator=generator))] = 1
    found[int(torch.randint(width, (1,), generator=generator))] += 1
    return found.tolist()


@settings(max_examples=150, deadline=None)
@given(widths, st.sampled_from(["dense", "sparse", "empty blocks", "peak"]), st.integers(0, 10**6), quantiles)
def test_the_token_is_that_of_the_exact_cdf(width, kind, seed, quantile):
    weights = whole_numbers(width, kind, seed)
    expected = bisect_right(list(accumulate(weights)), quantile * sum(weights))
    if quantile == LAST:
        # u x total may round up to the total: then it is the last token that has any weight.
        expected = min(expected, max(v for v, w in enumerate(weights) if w))
    for dtype in (torch.float32, torch.float64):
        token = at_quantile(torch.tensor([weights], dtype=dtype), quantile)
        assert token == expected


def at_quantile(weights_BV: Tensor, quantile: float) -> int:
    token_B, total_B = _at_quantile(weights_BV, torch.tensor([quantile], dtype=torch.float64))
    assert float(total_B) == float(weights_BV.double().sum())
    return int(token_B)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(513, 4000),
    st.sampled_from([0.1, 3.0, 40.0, 1000.0]),
    st.sampled_from([0.0, 0.5, 0.999]),
    st.sampled_from([0.5, 1.0, 1.7]),
    st.integers(0, 10**6),
    quantiles,
)
def test_drawn_tokens_follow_the_fp64_cdf_of_their_logits(width, spread, cut, temperature, seed, quantile):
    generator = torch.Generator().manual_seed(seed)
    logits_BV = spread * torch.randn(2, width, generator=generator)
    logits_BV[torch.rand(2, width, generator=generator) < cut] = -torch.inf
    logits_BV[:, int(torch.randint(width, (1,), generator=generator))] = 5.0
    rules = RuleRows.of([SupportRule(temperature)] * 2, CPU)
    uniform_B = torch.tensor([quantile, LAST], dtype=torch.float64)
    token_B, logprob_B, mass_B = draw(logits_BV, rules, uniform_B, None)
    exact_BV = (logits_BV.double() / temperature).softmax(-1)
    after_BV = exact_BV.cumsum(-1)
    chosen_B = exact_BV.gather(-1, token_B[:, None])[:, 0]
    after_B = after_BV.gather(-1, token_B[:, None])[:, 0]
    # fp32 weights know their place in the CDF to about as many digits.
    assert (after_B - chosen_B - 2e-5 <= uniform_B).all()
    assert (uniform_B <= after_B + 2e-5).all()
    assert torch.isfinite(logits_BV.gather(-1, token_B[:, None])).all()
    torch.testing.assert_close(
        logprob_B.double(), (logits_BV.double() / temperature).log_softmax(-1)[[0, 1], token_B], rtol=1e-4, atol=1e-4
    )
    assert (mass_B == 1).all()


@pytest.mark.parametrize("quantile", [0.0, LAST])
@pytest.mark.parametrize("place", [0, 511, 512, 1300, 1999])
def test_the_ends_of_the_unit_interval_take_a_token_with_weight(quantile, place):
    weights = torch.zeros(1, 2000)
    weights[0, place] = 1e-30
    assert at_quantile(weights, quantile) == place


def test_greedy_rows_take_the_likeliest_token_and_its_log_probability():
    logits_BV = torch.randn(2, 1500, generator=torch.Generator().manual_seed(0))
    rules = RuleRows.of([SupportRule(2.0)] * 2, CPU)
    token_B, logprob_B, _ = draw(logits_BV, rules, torch.tensor([0.0, 0.0]).double(), torch.tensor([True, False]))
    assert token_B[0] == logits_BV[0].argmax()
    assert token_B[1] == 0
    torch.testing.assert_close(logprob_B, (logits_BV / 2).log_softmax(-1)[[0, 1], token_B])
