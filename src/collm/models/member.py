"""What lives on a host, and the types of the losses it is trained with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

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
    reference_logprob_BT: Tensor | None = None
    """Under the initial weights, where the loss asked for it."""
    value_B: Tensor | None = None
    """V at the token from which the response begins, of a policy with a value head on its backbone."""

    @property
    def logprob_B(self) -> Tensor:
        """log pi(a|h), summed over all response tokens."""
        return (self.logprob_BT * self.mask_BT).sum(-1)


class PolicyLoss(Protocol):
    """Per-sample losses (B,) and metrics (B,) from a policy's output and its samples' data, (B,) or (B, T).

    The host differentiates the losses' weighted sum and averages the metrics (those named `max_...` are maxima).
    """

    @property
    def needs_reference(self) -> bool:
        """Whether the output has to hold log-probabilities under the initial weights."""
        ...

    def __call__(self, output: PolicyOutput, data: Data) -> tuple[Tensor, dict[str, Tensor]]: ...


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
    slow: list[Tensor] | None = None
    """The slow copy of a critic's parameters, where it has one, in order of `parameters`."""
    slow_rate: float | None = None
    """The share of the way the slow copy moves after each step."""
