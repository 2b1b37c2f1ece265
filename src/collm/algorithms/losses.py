"""Losses as pure functions of what a host computes and the numbers an algorithm attached to each sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from collm.models.member import Data, PolicyOutput


@dataclass(frozen=True, slots=True)
class PolicyGradientLoss:
    """-rho A, whose gradient is -rho grad log pi_i(a|h) A, the summand of Eq. 1, 2 and 4 (method.md section 5).

    `ratio` sequence: rho = pi_i(a|h) / pi_old(a|h) of the whole macro-action. token: each token's own ratio times A, summed
    (PPO). none: -log pi_i(a|h) A. With `clip_ratio` c it is PPO's max(-rho A, -clamp(rho, 1-c, 1+c) A). `old_logprob`
    NaN means that nothing was updated since sampling: then pi_old is pi, and rho is exactly 1.
    `kl_coef` adds the k3 estimate of KL(pi || reference), exp(d) - d - 1 with d = log pi_ref - log pi, summed over the
    response's tokens; `entropy_coef` takes off the mean entropy of its tokens.

    Reads data `advantage` (B,) and token data `old_logprob` (B, T). Returns losses (B,) and metrics (B,).
    """

    ratio: Literal["sequence", "token", "none"] = "sequence"
    clip_ratio: float | None = None
    kl_coef: float = 0.0
    entropy_coef: float = 0.0

    @property
    def needs_reference(self) -> bool:
        """Whether the host has to score the responses under the initial weights too."""
        return self.kl_coef > 0

    def __call__(self, output: PolicyOutput, data: Data) -> tuple[Tensor, dict[str, Tensor]]:
        mask_BT, advantage_B = output.mask_BT, data["advantage"]
        old_BT = torch.where(torch.isnan(data["old_logprob"]), output.logprob_BT.detach(), data["old_logprob"])
        log_ratio_BT = (output.logprob_BT - old_BT) * mask_BT
        log_ratio_B = log_ratio_BT.sum(-1)
        tokens_B = mask_BT.sum(-1)
        ratio_B = log_ratio_B.exp()
        if self.ratio == "none":
            loss_B, clipped_B = -output.logprob_B * advantage_B, torch.zeros_like(ratio_B)
        elif self.ratio == "sequence":
            loss_B, clipped_B = self._surrogate(ratio_B, advantage_B)
        else:
            loss_BT, clipped_BT = self._surrogate(log_ratio_BT.exp(), advantage_B[:, None])
            loss_B, clipped_B = (loss_BT * mask_BT).sum(-1), (clipped_BT * mask_BT).sum(-1) / tokens_B
        entropy_B = (output.entropy_BT * mask_BT).sum(-1) / tokens_B
        metrics = {
            "policy_loss": loss_B,
            "ratio": ratio_B,
            "max_ratio": ratio_B,
            # k3 of the behaviour policy against the current one, per macro-action: E_old[(rho - 1) - log rho].
            "approx_kl": (ratio_B - 1) - log_ratio_B,
            "clip_fraction": clipped_B,
            "entropy": entropy_B,
            "kept_mass": (output.kept_mass_BT * mask_BT).sum(-1) / tokens_B,
            "logprob": output.logprob_B,
        }
        if output.reference_logprob_BT is not None:
            difference_BT = (output.reference_logprob_BT - output.logprob_BT) * mask_BT
            metrics["reference_kl"] = kl_B = (difference_BT.exp() - difference_BT - 1).sum(-1)
            loss_B = loss_B + self.kl_coef * kl_B
        # Multiplied by 0 it would still send a gradient through the whole vocabulary.
        return loss_B - self.entropy_coef * entropy_B if self.entropy_coef else loss_B, metrics

    def _surrogate(self, ratio: Tensor, advantage: Tensor) -> tuple[Tensor, Tensor]:
        if self.clip_ratio is None:
            return -ratio * advantage, torch.zeros_like(ratio)
        bounded = ratio.clamp(1 - self.clip_ratio, 1 + self.clip_ratio)
        return torch.maximum(-ratio * advantage, -bounded * advantage), (bounded != ratio).to(ratio)


@dataclass(frozen=True, slots=True)
class SquaredValueLoss:
    """(target - V)^2 with the target held fixed, a semi-gradient (Eq. 3 and 5).

    With `value_clip` c the larger of it and the same error of V_old + clamp(V - V_old, -c, c), as in PPO.
    Reads data `target` and `old_value`, each (P,).
    """

    value_clip: float | None

    def __call__(self, values_P: Tensor, data: Data) -> tuple[Tensor, dict[str, Tensor]]:
        loss_P = (data["target"] - values_P).square()
        clipped_P = torch.zeros_like(loss_P)
        if self.value_clip is not None:
            moved_P = data["old_value"] + (values_P - data["old_value"]).clamp(-self.value_clip, self.value_clip)
            clipped_loss_P = (data["target"] - moved_P).square()
            clipped_P = (clipped_loss_P > loss_P).to(loss_P)
            loss_P = torch.maximum(loss_P, clipped_loss_P)
        return loss_P, {"clip_fraction": clipped_P}


@dataclass(frozen=True, slots=True)
class SharedLoss:
    """Policy loss + value_coef times value loss, of an actor with a value head on its own backbone (method.md section 4).

    Reads what both losses read, each (B,); V is read at the token from which the response begins.
    """

    policy: PolicyGradientLoss
    value: SquaredValueLoss
    value_coef: float

    @property
    def needs_reference(self) -> bool:
        return self.policy.needs_reference

    def __call__(self, output: PolicyOutput, data: Data) -> tuple[Tensor, dict[str, Tensor]]:
        if output.value_B is None:
            raise ValueError("the member has no value head on its backbone")
        policy_B, metrics = self.policy(output, data)
        value_B, value_metrics = self.value(output.value_B, data)
        own = {f"value_{key}": v for key, v in value_metrics.items()}
        return policy_B + self.value_coef * value_B, {**metrics, **own, "value_loss": value_B}
