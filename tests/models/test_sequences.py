"""Merging samples of one history, and micro-batches."""

from __future__ import annotations

import pytest
import torch
from builders import small_model
from hypothesis import given, settings
from hypothesis import strategies as st

from collm.config.schema import OptimizerConfig
from collm.models.host import Host
from collm.models.rows import DecodeSpec
from collm.models.sampling import SupportRule
from collm.models.sequences import PolicySample, merge_samples, micro_batches


def sample(context, response) -> PolicySample:
    return PolicySample(tuple(context), tuple(response), {}, "")


def dialogue(start: int, turns: int) -> list[PolicySample]:
    ids: tuple[int, ...] = ()
    samples = []
    for t in range(turns):
        context = ids + tuple(range(start, start + 3 + t))
        response = tuple(range(100, 102 + t))
        samples.append(sample(context, response))
        ids = context + response
    return samples


def test_a_dialogue_becomes_one_sequence_with_a_span_per_turn():
    merged = merge_samples(dialogue(60, 3))
    assert len(merged) == 1
    assert merged[0].samples == [0, 1, 2]
    assert merged[0].spans == [(3, 5), (9, 12), (17, 21)]


def test_branches_of_one_history_stay_apart():
    first, second = dialogue(60, 2)
    sibling = sample(first.context_ids + first.response_ids + (7, 8), (9,))
    merged = merge_samples([first, second, sibling])
    assert sorted(len(m.samples) for m in merged) == [1, 2]
    twins = merge_samples([first, first])
    assert [len(m.samples) for m in twins] == [1, 1]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=5), st.lists(st.integers(0, 2), min_size=1, max_size=3)), max_size=12
    )
)
def test_every_sample_is_found_once_at_its_span(pairs):
    samples = [sample(c, r) for c, r in pairs]
    seen = []
    for m in merge_samples(samples):
        for (start, stop), i in zip(m.spans, m.samples, strict=True):
            assert m.ids[:start] == samples[i].context_ids
            assert m.ids[start:stop] == samples[i].response_ids
            seen.append(i)
    assert sorted(seen) == list(range(len(samples)))


@pytest.mark.parametrize("budget", [1, 30, 10**6])
def test_merged_scores_equal_single_ones(budget):
    loaded = small_model(dtype=torch.float64)
    h = Host("h", loaded, torch.device("cpu"), budget, False)
    h.add_policy("p", DecodeSpec(SupportRule(0.7, 0.8), 10, frozenset()), OptimizerConfig(), None, 0)
    samples = dialogue(60, 3) + dialogue(40, 2) + dialogue(60, 2)
    together = h.score("p", samples)
    single = [h.score("p", [s])[0] for s in samples]
    assert [len(t) for t in together] == [len(s.response_ids) for s in samples]
    for one, other in zip(together, single, strict=True):
        assert one == pytest.approx(other, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 120))
def test_micro_batches_hold_everything_within_the_budget(lengths, budget):
    batches = list(micro_batches(range(len(lengths)), lambda i: lengths[i], budget))
    assert sorted(i for b in batches for i in b) == list(range(len(lengths)))
    for b in batches:
        assert len(b) == 1 or len(b) * max(lengths[i] for i in b) <= budget
