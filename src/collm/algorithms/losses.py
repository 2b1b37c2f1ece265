"""Losses as pure functions of what a host computes and the numbers an algorithm attached to each sample."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from collm.models.member import Data, PolicyOutput


@dataclass(frozen=True, slots=True)
class SequencePolicyLoss:
    """-rho A, with rho = pi_i(a|h) / pi_old(a|h) of the whole macro-action (method.md section 5).

    Its gradient is -rho grad log pi_i(a|h) A, the summand of Eq. 2 / Eq. 4. With `clip_ratio` c it is PPO's
    max(-rho A, -clamp(rho, 1-c, 1+c) A). `old_logprob` NaN means that nothing was updated since sampling: then
    pi_old is pi, and rho is exactly 1.

    Reads data `advantage`, `old_logprob`, each (B,). Returns losses (B,) and metrics (B,).
    """

    clip_ratio: float | None

    def __call__(self, output: PolicyOutput, data: Data) -> tuple[Tensor, dict[str, Tensor]]:
        logprob_B = output.logprob_B
        fresh_B = torch.isnan(data["old_logprob"])
        old_B = torch.where(fresh_B, logprob_B.detach(), data["old_logprob"])
        log_ratio_B = logprob_B - old_B
        ratio_B = log_ratio_B.exp()
        loss_B = -ratio_B * data["advantage"]
        clipped_B = torch.zeros_like(ratio_B)
        if self.clip_ratio is not None:
            bounded_B = ratio_B.clamp(1 - self.clip_ratio, 1 + self.clip_ratio)
            loss_B = torch.maximum(loss_B, -bounded_B * data["advantage"])
            clipped_B = (bounded_B != ratio_B).to(ratio_B)
        tokens_B = output.mask_BT.sum(-1)
        metrics = {
            "ratio": ratio_B,
            "max_ratio": ratio_B,
            # k3 of the behaviour policy against the current one, per macro-action: E_old[(rho - 1) - log rho].
            "approx_kl": (ratio_B - 1) - log_ratio_B,
            "clip_fraction": clipped_B,
            "entropy": (output.entropy_BT * output.mask_BT).sum(-1) / tokens_B,
            "kept_mass": (output.kept_mass_BT * output.mask_BT).sum(-1) / tokens_B,
            "logprob": logprob_B,
        }
        return loss_B, metrics


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
