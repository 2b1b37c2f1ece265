"""What happens to advantages after a method has made them: normalisation and clipping. Shapes: `_B` samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np


def normalise(advantages_B: np.ndarray, turns_B: Sequence[int], mode: Literal["off", "batch", "per_turn"]) -> tuple[np.ndarray, int]:
    """Subtract the mean and divide by the standard deviation, over the batch or over each turn's transitions.

    A group of fewer than two, or without spread, is left as it is. Returns the advantages and how many were skipped.
    """
    if mode == "off":
        return advantages_B, 0
    groups = np.zeros(len(advantages_B), dtype=int) if mode == "batch" else np.asarray(turns_B)
    out_B = advantages_B.astype(float).copy()
    skipped = 0
    for group in np.unique(groups):
        member_B = groups == group
        deviation = advantages_B[member_B].std(ddof=1) if member_B.sum() >= 2 else 0.0
        if deviation > 1e-8:
            out_B[member_B] = (advantages_B[member_B] - advantages_B[member_B].mean()) / deviation
        else:
            skipped += int(member_B.sum())
    return out_B, skipped


def clip(advantages_B: np.ndarray, limit: float | None) -> np.ndarray:
    """Clamp to [-limit, limit] (the paper's "advantage clip", taken after normalisation); None = off."""
    return advantages_B if limit is None else np.clip(advantages_B, -limit, limit)


def explained_variance(values: np.ndarray, targets: np.ndarray) -> float:
    """1 - Var(target - V) / Var(target); 0 where the targets do not vary."""
    variance = float(np.var(targets))
    return 0.0 if variance < 1e-12 else 1.0 - float(np.var(targets - values)) / variance
