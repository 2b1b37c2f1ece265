"""What lives on a host, and the types of the losses it is trained with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from collm.config.schema import OptimizerConfig
from collm.errors import ModelError
from collm.models.optim import Progress, gradient_norm, learning_rate
from collm.models.passes import ValueHead
from collm.models.rows import DecodeSpec

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
    optimizer: torch.optim.Optimizer
    optimizer_config: OptimizerConfig
    decode: DecodeSpec | None
    value_head: ValueHead | None
    steps: int = 0
    slow: list[Tensor] | None = None
    """The slow copy of a critic's parameters, where it has one, in order of `parameters`."""
    slow_rate: float | None = None
    """The share of the way the slow copy moves after each step."""

    def take_step(self, at: Progress) -> float:
        """Clip the accumulated gradient, take one optimizer step, clear it; returns the norm before clipping."""
        norm = gradient_norm(self.parameters)
        if self.optimizer_config.gradient_clip is not None:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self.optimizer_config.gradient_clip, norm)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.optimizer_config, at)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.steps += 1
        if self.slow is not None and self.slow_rate is not None:
            for slow, p in zip(self.slow, self.parameters, strict=True):
                slow.lerp_(p.detach(), self.slow_rate)
        return float(norm)

    @contextmanager
    def slow_weights(self) -> Iterator[None]:
        """The slow copy in place of the weights. Raises ModelError where there is none."""
        if self.slow is None:
            raise ModelError(f"{self.name} has no slow copy")
        live = [p.data for p in self.parameters]
        for p, slow in zip(self.parameters, self.slow, strict=True):
            p.data = slow
        try:
            yield
        finally:
            for p, own in zip(self.parameters, live, strict=True):
                p.data = own

    def state(self, names: Sequence[str]) -> dict[str, Any]:
        """Everything that training changes; `names` are those of the parameters."""
        weights = {n: p.detach() for n, p in zip(names, self.parameters, strict=True)}
        found = {"weights": weights, "optimizer": self.optimizer.state_dict(), "steps": self.steps}
        return found | ({"slow": self.slow} if self.slow is not None else {})

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Any], names: Sequence[str], place: str) -> None:
        """Take up a state made by `state` on an equal member. Raises ModelError naming the place where shapes differ."""
        for name, p in zip(names, self.parameters, strict=True):
            saved = state["weights"][name]
            if saved.shape != p.shape:
                raise ModelError(f"{place}: {name} has shape {tuple(saved.shape)} in the checkpoint, {tuple(p.shape)} here")
            p.copy_(saved)
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps = state["steps"]
        if self.slow is not None:
            for slow, saved in zip(self.slow, state["slow"], strict=True):
                slow.copy_(saved)
