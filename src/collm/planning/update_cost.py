"""What one forward-backward pass of an update allocates, by playing the production pass on fake tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from collm.algorithms.losses import PolicyGradientLoss
from collm.config.schema import LoraConfig
from collm.models.logprobs import CHUNK_ELEMENTS
from collm.models.passes import ValueHead
from collm.models.sampling import SupportRule
from collm.models.sequences import MergedSequence, PolicySample, ValueInput
from collm.models.teacher_forcing import policy_output, value_output
from collm.planning.architecture import Architecture, Kind
from collm.planning.fake_host import FakeHost, FakePasses
from collm.planning.live_bytes import LiveBytes
from collm.planning.workload import Batch

Reference = Literal["none", "copy", "adapters_off"]
"""What a KL term compares with: nothing, a frozen copy of the weights, or the base without its adapters."""


_CHUNKS_TRACED = 4


@dataclass(frozen=True, slots=True)
class Trained:
    """A member as its pass sees it: its base, how it is tuned and how it computes."""

    architecture: Architecture
    kind: Kind
    dtype: torch.dtype
    lora: LoraConfig | None
    bf16: bool
    """Compute in bf16 over the weights, as on a GPU."""
    checkpointing: bool


@dataclass(frozen=True, slots=True)
class PassCost:
    """Most bytes that exist during a pass beside weights, gradients and optimizer states. `logits` is what the LM head adds."""

    activations: int
    logits: int


@cache
def policy_pass(member: Trained, batch: Batch, rule: SupportRule, reference: Reference, value_features: int | None) -> PassCost:
    """A policy's pass over one micro-batch; with `value_features` there is a value head on its backbone."""
    batch = _with_fewer_chunks(batch, member.architecture.vocabulary)
    without = at_full_depth(member.architecture, lambda depth: _hidden_peak(member, batch, depth))
    whole = at_full_depth(member.architecture, lambda depth: _policy_peak(member, batch, rule, reference, value_features, depth))
    return PassCost(without, max(0, whole - without))


@cache
def value_pass(member: Trained, batch: Batch, features: int) -> PassCost:
    """A critic's pass over one micro-batch, a value at the beginning of every span."""
    return PassCost(at_full_depth(member.architecture, lambda depth: _value_peak(member, batch, features, depth)), 0)


def at_full_depth(architecture: Architecture, peak: Callable[[int], int]) -> int:
    """`peak` at the model's depth. Each layer adds the same, so that two shallow ones tell what a deep one takes."""
    low, high = architecture.sample_depths()
    found = peak(low)
    if high == low:
        return found
    return round(found + (peak(high) - found) * (architecture.layers - low) / (high - low))


def _with_fewer_chunks(batch: Batch, vocabulary: int) -> Batch:
    """The same batch with shorter responses where the LM head would run in many chunks: a few peak as many do."""
    most = _CHUNKS_TRACED * max(1, CHUNK_ELEMENTS // vocabulary) // (batch.rows * len(batch.spans))
    return replace(batch, spans=tuple((start, min(stop, start + max(1, most))) for start, stop in batch.spans))


def policy_peak_at(member: Trained, batch: Batch, rule: SupportRule, depth: int) -> int:
    """The peak of a policy's pass at a depth, traced in full."""
    return _policy_peak(member, batch, rule, "none", None, depth)


def _hidden_peak(member: Trained, batch: Batch, depth: int) -> int:
    """The backbone alone, every position's hidden state with a gradient."""

    def run(passes: FakePasses) -> Tensor:
        return passes.hidden(torch.zeros(batch.rows, batch.tokens, dtype=torch.long)).sum()

    return _peak(_training_host(member, depth), run, [])


def _value_peak(member: Trained, batch: Batch, features: int, depth: int) -> int:
    host = _training_host(member, depth)
    ids = (0,) * batch.tokens
    positions = tuple(start - 1 for start, _ in batch.spans)
    inputs = [ValueInput(ids, positions, ((0.0,) * features,) * len(positions), {}, "")] * batch.rows
    head = _value_head(host, features)
    return _peak(host, lambda passes: value_output(passes, head, inputs).square().sum(), list(head.parameters()))


def _policy_peak(member: Trained, batch: Batch, rule: SupportRule, reference: Reference, value_features: int | None, depth: int) -> int:
    host = _training_host(member, depth)
    ids = (0,) * batch.tokens
    per_row = len(batch.spans)
    samples = [
        PolicySample(ids[:start], ids[start:stop], {}, "", features=(0.0,) * (value_features or 0))
        for _ in range(batch.rows)
        for start, stop in batch.spans
    ]
    merged = [MergedSequence(ids, list(batch.spans), list(range(r * per_row, (r + 1) * per_row))) for r in range(batch.rows)]
    head = _value_head(host, value_features) if value_features is not None else None
    frozen: list[Tensor] = []
    loss = PolicyGradientLoss(kl_coef=0.0 if reference == "none" else 1.0)
    predict = None
    if reference == "copy":
        copy = host.frozen_copy()
        frozen, predict = list(copy.model.parameters()), copy.positions_and_head
    elif reference == "adapters_off":
        predict = host.base_positions_and_head

    def run(passes: FakePasses) -> Tensor:
        output, _ = policy_output(passes, merged, samples, rule, head, predict)
        token_data = torch.zeros_like(output.logprob_BT)
        losses, _ = loss(output, {"advantage": token_data[:, 0], "old_logprob": token_data})
        return losses.sum() if output.value_B is None else losses.sum() + output.value_B.square().sum()

    return _peak(host, run, [*frozen, *(head.parameters() if head is not None else [])])


def _training_host(member: Trained, depth: int) -> FakeHost:
    loras = (member.lora,) if member.lora is not None else ()
    host = FakeHost(
        member.architecture, member.kind, member.dtype, depth, loras, bf16=member.bf16, checkpointing=member.checkpointing, use="update"
    )
    with host.mode:
        if host.switch is not None:
            host.switch.use("member_0")
        for p in host.model.parameters():
            # The second of several micro-batches: gradients are there and grow in place.
            p.grad = torch.zeros_like(p) if p.requires_grad else None
    return host


def _value_head(host: FakeHost, features: int) -> ValueHead:
    with host.mode:
        head = ValueHead(host.passes.hidden_size, features)
        for p in head.parameters():
            p.grad = torch.zeros_like(p)
    return head


def _peak(host: FakeHost, run: Callable[[FakePasses], Tensor], held: list[Tensor]) -> int:
    gradients = [t.grad for t in held if t.grad is not None]
    with host.mode, LiveBytes([*host.held(), *held, *gradients]) as meter:
        run(host.passes).backward()
    return meter.peak
