"""Bootstrap intervals of a mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_BLOCK = 4_000_000
"""Most values drawn at once."""


def mean_interval(values: Sequence[float], resamples: int, seed: int, level: float = 0.95) -> tuple[float, tuple[float, float]]:
    """Mean of `values` and its percentile bootstrap interval at `level`. One value has the interval [v, v]."""
    data = np.asarray(values, dtype=float)
    rng = np.random.default_rng(seed)
    means = data[rng.integers(0, len(data), size=(resamples, len(data)))].mean(axis=1)
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(data.mean()), (float(low), float(high))


def clustered_interval(
    values: np.ndarray, weights: np.ndarray, resamples: int, seed: int, level: float = 0.95
) -> tuple[float, tuple[float, float]]:
    """Weighted mean of `values` (rows, samples) and its interval by a two-stage percentile bootstrap.

    Rows are drawn with replacement, and then samples within each row drawn: samples of one row are alike, and taking all
    of them for independent would make the interval too narrow. With one sample a row it is the bootstrap over rows, with
    one row the one over samples; in between it errs on the wide side, since row means already vary with their samples
    (by a factor of up to sqrt(2), where rows do not differ at all; Davison and Hinkley 1997, section 3.8).

    `weights` is of the same shape, 0 where there is no value. Raises ValueError where all are 0.
    """
    rows, samples = values.shape
    if not weights.any():
        raise ValueError("no value has any weight")
    rng = np.random.default_rng(seed)
    means: list[np.ndarray] = []
    block = max(1, _BLOCK // values.size)
    for start in range(0, resamples, block):
        count = min(block, resamples - start)
        row = rng.integers(0, rows, size=(count, rows, 1))
        sample = rng.integers(0, samples, size=(count, rows, samples))
        weight = weights[row, sample]
        total = weight.sum(axis=(1, 2))
        # A resample without a single value says nothing of their mean.
        means.append((values[row, sample] * weight).sum(axis=(1, 2))[total > 0] / total[total > 0])
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(np.concatenate(means), [tail, 100 - tail])
    return float((values * weights).sum() / weights.sum()), (float(low), float(high))
