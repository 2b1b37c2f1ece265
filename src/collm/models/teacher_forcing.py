"""Teacher-forced passes over micro-batches: statistics of every response token, and values at the wanted positions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from collm.models.logprobs import TokenStats, token_stats
from collm.models.member import PolicyOutput
from collm.models.passes import DecoderPasses, ValueHead
from collm.models.sampling import RuleRows, SupportRule
from collm.models.sequences import MergedSequence, PolicySample, ValueInput, right_pad

Predict = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Callable[[Tensor], Tensor]]]
"""(ids_BT, rows_P, columns_P) -> what predicts the token after each place, and the head for it: `DecoderPasses.positions_and_head`."""


def policy_output(
    passes: DecoderPasses,
    batch: Sequence[MergedSequence],
    samples: Sequence[PolicySample],
    rule: SupportRule,
    value_head: ValueHead | None,
    reference: Predict | None,
) -> tuple[PolicyOutput, list[int]]:
    """Statistics of every response in the batch, padded, and the samples' indices in that order.

    `value_head` reads V from the hidden state at which a response begins; `reference` scores the responses under other
    weights, without gradients.
    """
    device = passes.device
    ids_BT = right_pad([s.ids for s in batch], device)
    spans = [(b, start, stop) for b, s in enumerate(batch) for start, stop in s.spans]
    order = [i for s in batch for i in s.samples]
    row_P = torch.tensor([b for b, start, stop in spans for _ in range(start, stop)], device=device)
    column_P = torch.tensor([c for _, start, stop in spans for c in range(start, stop)], device=device)
    rules = RuleRows.of([rule] * len(row_P), device)
    lengths = [stop - start for _, start, stop in spans]
    mask_ST = torch.arange(max(lengths), device=device) < torch.tensor(lengths, device=device)[:, None]

    def statistics(predict: Predict) -> TokenStats:
        # The token at column c is predicted by the state at c - 1.
        hidden_PD, head = predict(ids_BT, row_P, column_P - 1)
        return token_stats(hidden_PD, head, ids_BT[row_P, column_P], rules, passes.vocabulary)

    def padded(x_P: Tensor) -> Tensor:
        return torch.zeros_like(mask_ST, dtype=x_P.dtype).masked_scatter(mask_ST, x_P)

    if value_head is None:
        own, value_S = statistics(passes.positions_and_head), None
    else:
        hidden_BTD = passes.hidden(ids_BT)
        own = statistics(lambda _, rows, columns: (hidden_BTD[rows, columns], passes.head))
        first_S = torch.tensor([[b, start - 1] for b, start, _ in spans], device=device)
        features_SF = torch.tensor([samples[i].features for i in order], device=device).reshape(len(order), -1)
        value_S = value_head(hidden_BTD[first_S[:, 0], first_S[:, 1]], features_SF)
    reference_ST = None
    if reference is not None:
        with torch.no_grad():
            reference_ST = padded(statistics(reference).logprob_T)
    output = PolicyOutput(padded(own.logprob_T), padded(own.entropy_T), mask_ST, padded(own.kept_mass_T), reference_ST, value_S)
    return output, order


def value_output(passes: DecoderPasses, head: ValueHead, inputs: Sequence[ValueInput]) -> Tensor:
    """V at every position of every input, one after the other, (P,)."""
    hidden_BTD = passes.hidden(right_pad([i.ids for i in inputs], passes.device))
    row_P = torch.tensor([b for b, i in enumerate(inputs) for _ in i.positions], device=passes.device)
    column_P = torch.tensor([p for i in inputs for p in i.positions], device=passes.device)
    features_PF = torch.tensor([f for i in inputs for f in i.features], device=passes.device).reshape(len(row_P), -1)
    return head(hidden_BTD[row_P, column_P], features_PF)
