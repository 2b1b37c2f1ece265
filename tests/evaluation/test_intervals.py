"""The two-stage bootstrap: what it reduces to, and that it covers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collm.evaluation import bootstrap
from collm.evaluation.bootstrap import clustered_interval, mean_interval

RNG = np.random.default_rng(7)


def width(values: np.ndarray, **options) -> float:
    low, high = clustered_interval(values, np.ones_like(values), 4000, 1, **options)[1]
    return high - low


def plain_width(values: np.ndarray) -> float:
    low, high = mean_interval(values.ravel().tolist(), 4000, 2)[1]
    return high - low


def test_one_sample_a_row_is_the_bootstrap_over_rows_and_one_row_that_over_samples():
    values = RNG.normal(size=60)
    for shape in ((60, 1), (1, 60)):
        assert width(values.reshape(shape)) == pytest.approx(plain_width(values), rel=0.06)


def test_samples_that_say_the_same_as_their_row_do_not_narrow_it():
    rows = RNG.normal(size=(25, 1))
    repeated = np.repeat(rows, 16, axis=1)
    assert width(repeated) == pytest.approx(plain_width(rows), rel=0.06)
    assert plain_width(repeated) < 0.35 * plain_width(rows), "taking all samples for independent would"


def test_rows_that_do_not_differ_widen_it_by_the_square_root_of_two_at_most():
    values = RNG.normal(size=(40, 40))
    assert 1.2 < width(values) / plain_width(values) < 1.5


def test_it_covers_the_mean_where_the_plain_one_does_not():
    rng = np.random.default_rng(3)
    covered = {"clustered": 0, "plain": 0}
    for repeat in range(200):
        values = rng.normal(0, 1.5, (16, 1)) + rng.normal(0, 1, (16, 8))
        low, high = clustered_interval(values, np.ones_like(values), 300, repeat)[1]
        covered["clustered"] += low <= 0 <= high
        low, high = mean_interval(values.ravel().tolist(), 300, repeat)[1]
        covered["plain"] += low <= 0 <= high
    assert covered["clustered"] >= 0.88 * 200
    assert covered["plain"] <= 0.65 * 200


@given(st.lists(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3), min_size=1, max_size=5), st.floats(-10, 10))
@settings(max_examples=50)
def test_it_moves_with_the_values_and_stays_among_them(rows, shift):
    values = np.array(rows)
    mean, (low, high) = clustered_interval(values, np.ones_like(values), 100, 0)
    assert mean == pytest.approx(values.mean(), abs=1e-9)
    assert values.min() - 1e-9 <= low <= high <= values.max() + 1e-9
    moved = clustered_interval(values + shift, np.ones_like(values), 100, 0)[1]
    assert moved == pytest.approx((low + shift, high + shift), abs=1e-6)


def test_values_that_are_not_there_do_not_count():
    values = np.array([[1.0, 99.0], [2.0, 3.0]])
    weights = np.array([[1.0, 0.0], [1.0, 1.0]])
    mean, (low, high) = clustered_interval(values, weights, 500, 0)
    assert mean == pytest.approx(2.0)
    assert 1.0 <= low < high <= 3.0
    # Weighted, as a mean over turns of episodes with more or fewer of them is.
    assert clustered_interval(values, np.array([[3.0, 0.0], [1.0, 0.0]]), 100, 0)[0] == pytest.approx(1.25)
    with pytest.raises(ValueError, match="no value"):
        clustered_interval(values, np.zeros((2, 2)), 100, 0)


def test_resamples_drawn_in_blocks_are_as_many(monkeypatch):
    values = RNG.normal(size=(20, 3))
    whole = width(values)
    monkeypatch.setattr(bootstrap, "_BLOCK", 1000)
    assert width(values) == pytest.approx(whole, rel=0.08)
