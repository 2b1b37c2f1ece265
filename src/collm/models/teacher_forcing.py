"""Teacher-forced passes over micro-batches: statistics of every response token, and values at the wanted positions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from collm.models.logprobs import TokenStats, token_stats
from collm.models.member import PolicyOutput
from collm.models.passes import DecoderPasses, ValueHead
from collm.models.sampling import RuleRows, SupportRule
from collm.models.sequences import MergedSequence, Places, PolicySample, TreeLayout, ValueInput, right_pad

Predict = Callable[[Tensor, Places, TreeLayout | None], tuple[Tensor, Callable[[Tensor], Tensor]]]
"""(ids_BT, places, tree) -> what predicts the token after each place, and the head for it: `DecoderPasses.positions_and_head`."""


def policy_output(
    passes: DecoderPasses,
    batch: Sequence[MergedSequence],
    samples: Sequence[PolicySample],
    rule: SupportRule,
    value_head: ValueHead | None,
    reference: Predict | None,
    entropy: bool = True,
) -> tuple[PolicyOutput, list[int]]:
    """Statistics of every response in the batch, padded, and the samples' indices in that order.

    `value_head` reads V from the hidden state at which a response begins; `reference` scores the responses under other
    weights, without gradients. Without `entropy` that column may be NaN. A sequence that is a tree is a batch of its own.
    """
    device, tree = passes.device, batch[0].tree
    if tree is not None and len(batch) > 1:
        raise ValueError("a tree goes through the model in a pass of its own; join the trees first")
    ids_BT = right_pad([s.ids for s in batch], device)
    spans = [(b, start, stop) for b, s in enumerate(batch) for start, stop in s.spans]
    order = [i for s in batch for i in s.samples]
    row_S, start_S, stop_S = torch.tensor(spans).unbind(-1)
    before_S = torch.tensor([column for s in batch for column in s.columns_before()])
    length_S = stop_S - start_S
    place_ST = torch.arange(int(length_S.max()))
    mask_ST = place_ST < length_S[:, None]
    row_P, column_P = row_S[:, None].expand_as(mask_ST)[mask_ST], (start_S[:, None] + place_ST)[mask_ST]
    # A token is predicted by the state before it: within the response the column to its left.
    state_P = torch.where(place_ST > 0, start_S[:, None] + place_ST - 1, before_S[:, None])[mask_ST]
    places = Places.of(row_P.tolist(), state_P.tolist(), len(batch), device)
    token_P = ids_BT[row_P.to(device), column_P.to(device)]
    mask_ST = mask_ST.to(device)
    rules = RuleRows.repeat(rule, len(token_P), device)

    def statistics(predict: Predict, entropy: bool) -> TokenStats:
        hidden_PD, head = predict(ids_BT, places, tree)
        return token_stats(hidden_PD, head, token_P, rules, passes.vocabulary, entropy)

    def padded(x_P: Tensor) -> Tensor:
        return torch.zeros_like(mask_ST, dtype=x_P.dtype).masked_scatter(mask_ST, x_P)

    if value_head is None:
        own, value_S = statistics(passes.positions_and_head, entropy), None
    else:
        states_PD = passes.states(ids_BT, places, tree)
        own = statistics(lambda *_: (states_PD, passes.whole_head), entropy)
        features_SF = torch.tensor([samples[i].features for i in order], device=device).reshape(len(order), -1)
        first_S = (length_S.cumsum(0) - length_S).to(device)
        value_S = value_head(states_PD[first_S], features_SF)
    reference_ST = None
    if reference is not None:
        with torch.no_grad():
            reference_ST = padded(statistics(reference, entropy=False).logprob_T)
    output = PolicyOutput(padded(own.logprob_T), padded(own.entropy_T), mask_ST, padded(own.kept_mass_T), reference_ST, value_S)
    return output, order


def value_output(passes: DecoderPasses, head: ValueHead, inputs: Sequence[ValueInput]) -> Tensor:
    """V at every position of every input, one after the other, (P,)."""
    rows, columns = [b for b, i in enumerate(inputs) for _ in i.positions], [p for i in inputs for p in i.positions]
    places = Places.of(rows, columns, len(inputs), passes.device)
    states_PD = passes.states(right_pad([i.ids for i in inputs], passes.device), places)
    features_PF = torch.tensor([f for i in inputs for f in i.features], device=passes.device).reshape(len(rows), -1)
    return head(states_PD, features_PF)
