"""The support rule and the inverse-CDF sampler."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from collm.models.sampling import RuleRows, SupportRule, inverse_cdf_sample, support_log_softmax, uniforms

CPU = torch.device("cpu")
rules = st.builds(
    SupportRule,
    temperature=st.floats(0.2, 3.0),
    top_p=st.one_of(st.just(1.0), st.floats(0.05, 0.999)),
    top_k=st.integers(0, 12),
)


def logits(seed: int, rows: int = 3, width: int = 11) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2


@settings(max_examples=100, deadline=None)
@given(rules, st.integers(0, 1000))
def test_the_support_is_what_transformers_warpers_leave(rule, seed):
    scores = logits(seed)
    expected = TemperatureLogitsWarper(rule.temperature)(None, scores)  # type: ignore[arg-type]
    if rule.top_k:
        expected = TopKLogitsWarper(rule.top_k)(None, expected)  # type: ignore[arg-type]
    if rule.top_p < 1:
        expected = TopPLogitsWarper(rule.top_p)(None, expected)  # type: ignore[arg-type]
    actual, kept = support_log_softmax(scores, RuleRows.of([rule] * 3, CPU))
    torch.testing.assert_close(actual, expected.log_softmax(-1), rtol=1e-9, atol=1e-9)
    full = (scores / rule.temperature).softmax(-1)
    torch.testing.assert_close(kept, (full * torch.isfinite(expected)).sum(-1), rtol=1e-9, atol=1e-9)


def test_rules_apply_row_by_row():
    scores = logits(1)
    mixed = [SupportRule(0.5), SupportRule(1.0, top_p=0.4), SupportRule(2.0, top_k=2)]
    together, _ = support_log_softmax(scores, RuleRows.of(mixed, CPU))
    for b, rule in enumerate(mixed):
        alone, _ = support_log_softmax(scores[b : b + 1], RuleRows.of([rule], CPU))
        torch.testing.assert_close(together[b], alone[0])


def test_the_chosen_token_is_always_in_the_support():
    scores = torch.tensor([[5.0, 0.0, -5.0]])
    rule = RuleRows.of([SupportRule(top_p=0.5)], CPU)
    outside, _ = support_log_softmax(scores, rule)
    assert outside[0, 2] == -torch.inf
    inside, mass = support_log_softmax(scores, rule, torch.tensor([2]))
    probs = scores.softmax(-1)[0]
    assert inside[0, 2].exp() == pytest.approx(float(probs[2] / (probs[0] + probs[2])))
    assert float(mass) == pytest.approx(float(probs[0] + probs[2]))


def test_gradients_pass_through_a_truncated_distribution():
    scores = logits(4).requires_grad_()
    chosen = torch.tensor([1, 2, 3])
    logprob, _ = support_log_softmax(scores, RuleRows.of([SupportRule(0.7, 0.6)] * 3, CPU), chosen)
    (grad,) = torch.autograd.grad(logprob.gather(-1, chosen[:, None]).sum(), scores)
    assert torch.isfinite(grad).all()
    # The score function of a softmax sums to zero over its support, and is zero outside.
    torch.testing.assert_close(grad.sum(-1), torch.zeros(3, dtype=torch.float64), atol=1e-12, rtol=0)
    assert (grad[torch.isinf(logprob)] == 0).all()


def test_sampling_frequencies_follow_the_distribution():
    logprob, _ = support_log_softmax(logits(7, rows=1), RuleRows.of([SupportRule(1.3, 0.9)], CPU))
    n = 20000
    draws = inverse_cdf_sample(logprob.expand(n, -1), torch.from_numpy(uniforms(5, n)))
    frequency = np.bincount(draws.numpy(), minlength=logprob.shape[1]) / n
    np.testing.assert_allclose(frequency, logprob.exp()[0].numpy(), atol=0.015)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.5, 1 - 2**-53]))
def test_a_token_of_probability_zero_is_never_drawn(seed, quantile):
    logprob, _ = support_log_softmax(logits(seed, rows=1).float(), RuleRows.of([SupportRule(1.0, 0.5, 4)], CPU))
    token = inverse_cdf_sample(logprob, torch.tensor([quantile], dtype=torch.float64))
    assert torch.isfinite(logprob[0, token[0]])


def test_a_row_draws_the_same_whatever_its_length_and_neighbours():
    assert uniforms(3, 5).tolist() == uniforms(3, 9)[:5].tolist()
    assert uniforms(3, 5).tolist() != uniforms(4, 5).tolist()
