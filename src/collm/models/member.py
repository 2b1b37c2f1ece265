"""What lives on a host, and the types of the losses it is trained with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from collm.config.schema import OptimizerConfig
from collm.models.generation import DecodeSpec
from collm.models.passes import ValueHead

Data = Mapping[str, Tensor]
Metrics = dict[str, float]


@dataclass(frozen=True, slots=True)
class PolicyOutput:
    """What a policy loss reads, padded over response tokens: (B, T), `mask_BT` marks the real ones."""

    logprob_BT: Tensor
    entropy_BT: Tensor
    mask_BT: Tensor
    kept_mass_BT: Tensor

    @property
    def logprob_B(self) -> Tensor:
        """log pi(a|h), summed over all response tokens."""
        return (self.logprob_BT * self.mask_BT).sum(-1)


PolicyLoss = Callable[[PolicyOutput, Data], tuple[Tensor, dict[str, Tensor]]]
"""(output, data of shape (B,)) -> per-sample losses (B,) and per-sample metrics (B,); the host averages both
(metrics named `max_...` are maxima)."""
ValueLoss = Callable[[Tensor, Data], tuple[Tensor, dict[str, Tensor]]]
"""(values (P,), data of shape (P,)) -> per-position losses (P,) and metrics (P,)."""


@dataclass(slots=True)
class Member:
    """A policy or a critic on a host."""

    name: str
    kind: Literal["policy", "critic"]
    adapter: str | None
    parameters: list[nn.Parameter]
    optimizer: torch.optim.AdamW
    optimizer_config: OptimizerConfig
    decode: DecodeSpec | None
    value_head: ValueHead | None
    steps: int = 0
