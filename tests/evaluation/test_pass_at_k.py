"""pass@k against its definition."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collm.evaluation.pass_at_k import mean_pass_at_k, pass_at_k


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.data())
def test_it_is_the_share_of_subsets_that_hold_a_pass(passed, data):
    k = data.draw(st.integers(1, len(passed)))
    subsets = list(itertools.combinations(passed, k))
    assert pass_at_k(len(passed), sum(passed), k) == pytest.approx(sum(map(any, subsets)) / len(subsets), abs=1e-14)


@given(st.integers(1, 10**6), st.data())
def test_it_keeps_its_digits_where_the_binomials_overflow(samples, data):
    passed, k = data.draw(st.integers(0, samples)), data.draw(st.integers(1, min(samples, 20)))
    exact = 1 - Fraction(math.comb(samples - passed, k), math.comb(samples, k))
    assert pass_at_k(samples, passed, k) == pytest.approx(float(exact), rel=1e-12)


def test_a_small_chance_is_not_lost_to_rounding():
    assert pass_at_k(10**15, 1, 3) == pytest.approx(3e-15, rel=1e-12)


@given(st.integers(1, 60), st.data())
def test_it_grows_with_k_and_with_passes(samples, data):
    passed, k = data.draw(st.integers(0, samples)), data.draw(st.integers(1, samples))
    here = pass_at_k(samples, passed, k)
    assert 0 <= here <= 1
    assert pass_at_k(samples, passed, 1) == pytest.approx(passed / samples)
    if k < samples:
        assert pass_at_k(samples, passed, k + 1) >= here - 1e-15
    if passed < samples:
        assert pass_at_k(samples, passed + 1, k) >= here - 1e-15


def test_it_is_unbiased():
    """The mean over all outcomes of n = 5 independent answers that pass with chance p is 1 - (1 - p)^k."""
    p = 0.3
    for k in (1, 3, 5):
        expected = sum(math.comb(5, c) * p**c * (1 - p) ** (5 - c) * pass_at_k(5, c, k) for c in range(6))
        assert expected == pytest.approx(1 - (1 - p) ** k, abs=1e-14)


def test_the_mean_is_over_problems():
    assert mean_pass_at_k(4, [0, 4, 1], 2) == pytest.approx((0 + 1 + 1 / 2) / 3)


@pytest.mark.parametrize(("samples", "passed", "k"), [(3, 4, 1), (3, -1, 1), (3, 1, 4), (3, 1, 0)])
def test_what_cannot_be_is_refused(samples, passed, k):
    with pytest.raises(ValueError, match="needs 0 <= passed"):
        pass_at_k(samples, passed, k)
