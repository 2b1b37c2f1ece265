"""What one pass of the update allocates, by running it on fake tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Literal

import torch
from torch import Tensor

from collm.algorithms.losses import PolicyGradientLoss
from collm.config.schema import LoraConfig
from collm.models.logprobs import CHUNK_ELEMENTS, TokenStats, token_stats
from collm.models.member import PolicyOutput
from collm.models.passes import ValueHead
from collm.models.sampling import RuleRows, SupportRule
from collm.models.sequences import Places, ValueInput
from collm.models.teacher_forcing import value_output
from collm.planning.architecture import Architecture, Kind
from collm.planning.block_head import head_in_one_block
from collm.planning.depth import PassPeaks, at_full_depth
from collm.planning.fake_host import FakeHost, FakePasses
from collm.planning.live_bytes import LiveBytes
from collm.planning.workload import Batch

Reference = Literal["none", "copy", "adapters_off"]
"""What a KL term compares with: nothing, a frozen copy of the weights, or the base without its adapters."""
Predict = Callable[[Tensor, Places], tuple[Tensor, Callable[[Tensor], Tensor]]]


_CHUNKS_TRACED = 4


@dataclass(frozen=True, slots=True)
class Trained:
    """A member as its pass sees it: its base, how it is tuned and how it computes."""

    architecture: Architecture
    kind: Kind
    dtype: torch.dtype
    lora: LoraConfig | None
    on_gpu: bool
    """Compute in bf16 over the weights, the LM head in larger blocks."""
    checkpointing: bool


@dataclass(frozen=True, slots=True)
class PassCost:
    """Most bytes that exist during a pass beside weights, gradients and optimizer states; `logits` of them while the LM head works."""

    activations: int
    logits: int


@cache
def policy_pass(member: Trained, batch: Batch, rule: SupportRule, reference: Reference, value_features: int | None) -> PassCost:
    """A policy's pass over one micro-batch; with `value_features` there is a value head on its backbone."""
    peaks = at_full_depth(member.architecture, partial(_policy_peaks, member, batch, rule, reference, value_features))
    logits = peaks.early - peaks.kept
    return PassCost(peaks.whole - logits, logits)


@cache
def value_pass(member: Trained, batch: Batch, features: int) -> PassCost:
    """A critic's pass over one micro-batch, a value at the beginning of every span."""
    return PassCost(at_full_depth(member.architecture, partial(_value_peaks, member, batch, features)).whole, 0)


def _value_peaks(member: Trained, batch: Batch, features: int, depth: int) -> PassPeaks:
    host = _training_host(member, depth)
    ids = (0,) * batch.tokens
    positions = tuple(start - 1 for start, _ in batch.spans)
    inputs = [ValueInput(ids, positions, ((0.0,) * features,) * len(positions), {}, "")] * batch.rows
    head = _value_head(host, features)
    host.passes.read_few()
    return _peaks(host, lambda passes, see: see(value_output(passes, head, inputs)).square().sum(), list(head.parameters()))


def _policy_peaks(
    member: Trained, batch: Batch, rule: SupportRule, reference: Reference, value_features: int | None, depth: int
) -> PassPeaks:
    host = _training_host(member, depth)
    head = _value_head(host, value_features) if value_features is not None else None
    held: list[Tensor] = list(head.parameters()) if head is not None else []
    loss = PolicyGradientLoss(kl_coef=0.0 if reference == "none" else 1.0)
    predict: Predict | None = None
    if reference == "copy":
        copy = host.frozen_copy()
        held += list(copy.model.parameters())
        predict = copy.positions_and_head
    elif reference == "adapters_off":
        predict = host.base_positions_and_head

    def run(passes: FakePasses, see: Callable[[Tensor], Tensor]) -> Tensor:
        output = _policy_output(_Scoring(passes, batch, rule, member.on_gpu), head, predict, see)
        token_data = torch.zeros_like(output.logprob_BT)
        losses, _ = loss(output, {"advantage": token_data[:, 0], "old_logprob": token_data})
        return losses.sum() if output.value_B is None else losses.sum() + output.value_B.square().sum()

    return _peaks(host, run, held)


@dataclass(frozen=True, slots=True)
class _Scoring:
    """`teacher_forcing.policy_output` for equal rows: its own reads lengths from tensors, which fake ones do not have."""

    passes: FakePasses
    batch: Batch
    rule: SupportRule
    on_gpu: bool

    def statistics(self, hidden_PD: Tensor, head: Callable[[Tensor], Tensor]) -> TokenStats:
        if self.by_blocks:
            linear = self.passes.model.get_output_embeddings()
            assert isinstance(linear, torch.nn.Linear)
            logprob_P, entropy_P = head_in_one_block(hidden_PD, linear.weight, linear.bias, self.on_gpu)
            return TokenStats(logprob_P, entropy_P, torch.ones_like(logprob_P))
        rules = RuleRows.repeat(self.rule, len(hidden_PD), hidden_PD.device)
        targets_P = torch.zeros(len(hidden_PD), dtype=torch.long)
        return token_stats(hidden_PD, head, targets_P, rules, self.passes.vocabulary, chunks_of=self.device_type)

    @property
    def device_type(self) -> str:
        return "cuda" if self.on_gpu else "cpu"

    @property
    def by_blocks(self) -> bool:
        return self.passes.scores_in_blocks and not self.rule.truncates

    def places(self) -> Places:
        """The states that predict a response token."""
        spans = self.batch.spans if self.by_blocks else _with_fewer_chunks(self.batch, self.passes.vocabulary, self.device_type).spans
        columns = [c for start, stop in spans for c in range(start - 1, stop - 1)]
        rows = [row for row in range(self.batch.rows) for _ in columns]
        return Places.of(rows, columns * self.batch.rows, self.batch.rows, torch.device("cpu"))


def _with_fewer_chunks(batch: Batch, vocabulary: int, device_type: str) -> Batch:
    """The same batch with shorter responses where whole rows of logits would be made in many chunks: a few peak as many do."""
    most = _CHUNKS_TRACED * max(1, CHUNK_ELEMENTS[device_type] // vocabulary) // (batch.rows * max(1, len(batch.spans)))
    return replace(batch, spans=tuple((start, min(stop, start + max(1, most))) for start, stop in batch.spans))


def _policy_output(scoring: _Scoring, head: ValueHead | None, reference: Predict | None, see: Callable[[Tensor], Tensor]) -> PolicyOutput:
    passes, batch, ids_BT = scoring.passes, scoring.batch, _ids(scoring.batch)
    places = scoring.places()
    value_S = None
    if head is None:
        hidden_PD, predict = passes.positions_and_head(ids_BT, places)
        own = scoring.statistics(see(hidden_PD), predict)
    else:
        states_PD = see(passes.states(ids_BT, places))
        own = scoring.statistics(states_PD, passes.whole_head)
        first_SD = states_PD[:: len(states_PD) // (batch.rows * len(batch.spans))]
        value_S = head(first_SD, torch.zeros(len(first_SD), head.linear.in_features - first_SD.shape[-1]))
    reference_ST = None
    sequences = batch.rows * len(batch.spans)
    if reference is not None:
        with torch.no_grad():
            reference_ST = scoring.statistics(*reference(ids_BT, places)).logprob_T.reshape(sequences, -1)
    logprob_ST, entropy_ST, kept_ST = (x.reshape(sequences, -1) for x in (own.logprob_T, own.entropy_T, own.kept_mass_T))
    return PolicyOutput(logprob_ST, entropy_ST, torch.ones_like(logprob_ST, dtype=torch.bool), kept_ST, reference_ST, value_S)


def _ids(batch: Batch) -> Tensor:
    return torch.zeros(batch.rows, batch.tokens, dtype=torch.long)


def _training_host(member: Trained, depth: int) -> FakeHost:
    loras = (member.lora,) if member.lora is not None else ()
    host = FakeHost(
        member.architecture, member.kind, member.dtype, depth, loras, bf16=member.on_gpu, checkpointing=member.checkpointing, use="update"
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


def _peaks(host: FakeHost, run: Callable[[FakePasses, Callable[[Tensor], Tensor]], Tensor], held: Sequence[Tensor]) -> PassPeaks:
    """`run` makes a scalar from passes, and shows the hidden states that it goes on with, whose gradient ends the head's part."""
    gradients = [t.grad for t in held if t.grad is not None]
    early = 0
    kept = 0

    def see(hidden: Tensor) -> Tensor:
        nonlocal kept
        kept = meter.live
        hidden.register_hook(note)
        return hidden

    def note(_: Tensor) -> None:
        nonlocal early
        early = meter.peak

    with host.mode, LiveBytes([*host.held(), *held, *gradients]) as meter:
        run(host.passes, see).backward()
    return PassPeaks(meter.peak, early, kept)
