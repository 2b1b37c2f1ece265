"""pass@k by the unbiased estimator (Chen et al. 2021, arXiv 2107.03374, Eq. 1)."""

from __future__ import annotations

import math
from collections.abc import Sequence

SHOWN = (1, 3, 5, 10)
"""The k of the paper's Table 2."""


def pass_at_k(samples: int, passed: int, k: int) -> float:
    """The chance that k of `samples` answers to one problem, drawn without replacement, hold one of the `passed`.

    1 - C(n - c, k) / C(n, k) = 1 - prod_{j < k} (1 - c / (n - j)), without the binomials, whose quotient overflows, and
    without subtracting from 1, which loses small chances. Raises ValueError unless 0 <= passed <= samples and
    1 <= k <= samples.
    """
    if not (0 <= passed <= samples and 1 <= k <= samples):
        raise ValueError(f"pass@{k} of {passed} passed among {samples} samples: needs 0 <= passed <= samples and 1 <= k <= samples")
    if samples - passed < k:
        return 1.0
    return -math.expm1(math.fsum(math.log1p(-passed / (samples - j)) for j in range(k)))


def mean_pass_at_k(samples: int, passed: Sequence[int], k: int) -> float:
    """Mean over problems, `passed` of `samples` answers each. Raises ValueError as `pass_at_k` does."""
    return math.fsum(pass_at_k(samples, c, k) for c in passed) / len(passed)
