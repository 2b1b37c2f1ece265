"""One member's gradient, added up over micro-batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from collm.errors import NonFiniteLossError
from collm.models.member import Member, Metrics
from collm.models.optim import gradient_norm
from collm.models.sequences import PolicySample

_NAMED = 8
"""Origins that a message names at most."""


class Accumulation:
    """Backward passes of one member's losses; `totals` are their metrics so far."""

    def __init__(self, member: Member, dtype: torch.dtype) -> None:
        """`dtype`: of the model's weights; losses are given their data in at least fp32."""
        self.totals: Metrics = {}
        self._member = member
        self._wide = torch.promote_types(dtype, torch.float32)
        self._device = member.parameters[0].device

    def data(self, rows: Sequence[Mapping[str, float]]) -> dict[str, Tensor]:
        """Per-sample numbers, (B,)."""
        return {key: torch.tensor([row[key] for row in rows], dtype=self._wide, device=self._device) for key in rows[0]}

    def token_data(self, samples: Sequence[PolicySample], width: int) -> dict[str, Tensor]:
        """Per-token numbers, padded with 0 to (B, width)."""
        rows = {key: [s.token_data[key] for s in samples] for key in samples[0].token_data}
        return {
            key: torch.tensor([[*row, *(0.0,) * (width - len(row))] for row in values], dtype=self._wide, device=self._device)
            for key, values in rows.items()
        }

    def add(self, loss_B: Tensor, metrics: Mapping[str, Tensor], weights: Sequence[float], count: int, origins: Sequence[str]) -> None:
        """Add the gradient of the losses' weighted sum, and a `count`-th of the metrics (of those named `max_...` the maximum).

        Raises NonFiniteLossError naming the origins of the losses that are not finite.
        """
        if not torch.isfinite(loss_B).all():
            bad = [o for o, finite in zip(origins, torch.isfinite(loss_B).tolist(), strict=True) if not finite]
            raise NonFiniteLossError(f"{self._member.name}: the loss is not finite; from {_some(bad)}")
        (loss_B * torch.tensor(weights, dtype=loss_B.dtype, device=self._device)).sum().backward()
        for key, value in {"loss": loss_B, **metrics}.items():
            if key.startswith("max_"):
                self.totals[key] = max(self.totals.get(key, -torch.inf), float(value.detach().max()))
            else:
                self.totals[key] = self.totals.get(key, 0.0) + float(value.detach().sum()) / count

    def check(self, origins: Sequence[str]) -> None:
        """Raises NonFiniteLossError where the gradient is not finite."""
        if not torch.isfinite(gradient_norm(self._member.parameters)):
            raise NonFiniteLossError(f"{self._member.name}: the gradient is not finite although the loss is; from {_some(origins)}")


def _some(origins: Sequence[str]) -> str:
    return ", ".join(sorted(set(origins))[:_NAMED])
