"""Bootstrap interval of a mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def mean_interval(values: Sequence[float], resamples: int, seed: int, level: float = 0.95) -> tuple[float, tuple[float, float]]:
    """Mean of `values` and its percentile bootstrap interval at `level`. One value has the interval [v, v]."""
    data = np.asarray(values, dtype=float)
    rng = np.random.default_rng(seed)
    means = data[rng.integers(0, len(data), size=(resamples, len(data)))].mean(axis=1)
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(data.mean()), (float(low), float(high))
