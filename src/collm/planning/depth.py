"""From shallow models to deep ones: what a layer adds, all layers add."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from collm.planning.architecture import Architecture


@dataclass(frozen=True, slots=True)
class PassPeaks:
    """Of a training pass, in bytes: its peak, the peak until the gradient reaches the last layer, what the layers keep for it."""

    whole: int
    early: int
    kept: int


def at_full_depth(architecture: Architecture, trace: Callable[[int], PassPeaks]) -> PassPeaks:
    """A training pass's peaks at the model's depth, from two shallower ones.

    The whole peak is where the head is at work and all layers' activations are kept, or where these have been freed and the
    gradients of tied embeddings meet. Only the former grows with depth, by what a layer keeps.
    """
    low, high = architecture.sample_depths()
    shallow, deep = trace(low), trace(high)
    if high == low:
        return deep
    more = (architecture.layers - high) / (high - low)
    kept, grown = deep.kept - shallow.kept, deep.whole - shallow.whole
    # Where the peak follows the layers already it goes on to.
    top = deep.whole if grown >= 0.99 * kept else deep.early
    whole = max(deep.whole, round(top + max(kept, grown) * more))
    return PassPeaks(whole, round(deep.early + kept * more), round(deep.kept + kept * more))


def linear_in_depth(architecture: Architecture, size: Callable[[int], int]) -> int:
    """A size at the model's depth to which every layer adds the same."""
    low, high = architecture.sample_depths()
    found = size(low)
    if high == low:
        return found
    return round(found + (size(high) - found) * (architecture.layers - low) / (high - low))
