"""Conversations that come and go: each is answered as it would be alone, once, and what it shares with others is read once."""

from __future__ import annotations

import pytest
import torch
from builders import small_model
from hypothesis import given, settings
from hypothesis import strategies as st

from collm.config.schema import OptimizerConfig
from collm.models import generation as generation_module
from collm.models.generation import Generation, GenerationRequest
from collm.models.host import Host
from collm.models.rows import DecodeSpec
from collm.models.sampling import SupportRule

CPU = torch.device("cpu")
LOADED = small_model(dtype=torch.float64)
FREE = frozenset({-5})
NEW = 14


def host(stops: frozenset[int] = FREE, budget: int = 10**6, new: int = NEW) -> Host:
    made = Host("h", LOADED, CPU, budget, False)
    made.add_policy("p", DecodeSpec(SupportRule(0.9), new, stops), OptimizerConfig(), None, 0)
    return made


def request(i: int, context: tuple[int, ...], before: object = None) -> GenerationRequest:
    return GenerationRequest("p", i, before, context, i, greedy=False)


def context(i: int, length: int) -> tuple[int, ...]:
    return tuple((7 * i + 3 * j) % 90 + 40 for j in range(length))


def alone(requests: list[GenerationRequest], stops: frozenset[int]) -> dict[object, Generation]:
    return {r.key: host(stops).generate([r])[0] for r in requests}


def same(found: Generation, expected: Generation) -> None:
    assert (found.response_ids, found.stop, found.kept_mass) == (expected.response_ids, expected.stop, expected.kept_mass)
    assert found.logprob == pytest.approx(expected.logprob, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 24), min_size=1, max_size=7),
    arrivals=st.lists(st.integers(0, 12), min_size=7, max_size=7),
    steps=st.integers(1, 6),
    budget=st.sampled_from([1, 30, 10**6]),
    n_stops=st.integers(0, 30),
)
def test_whoever_joins_when_answers_are_those_given_alone(lengths, arrivals, steps, budget, n_stops):
    stops = frozenset(range(60, 60 + n_stops)) or FREE
    requests = [request(i, context(i, n)) for i, n in enumerate(lengths)]
    expected = alone(requests, stops)
    h = host(stops, budget)
    batch, found, tick = h.open_batch(), {}, 0
    while len(found) < len(requests):
        batch.admit([r for r, at in zip(requests, arrivals, strict=False) if at == tick])
        for r, generation in batch.decode(steps):
            assert r.key not in found, "an answer was handed out twice"
            found[r.key] = generation
        tick += 1
        assert tick < 200
    for key, generation in found.items():
        same(generation, expected[key])
    assert len(batch) == 0
    assert batch.fed_tokens == sum(lengths) + sum(len(g.response_ids) - 1 for g in found.values())


def test_equal_contexts_are_read_once_and_answered_apart(monkeypatch):
    h = host()
    rows: list[tuple[int, int]] = []
    inner = h._passes.last_logits
    monkeypatch.setattr(h._passes, "last_logits", lambda ids, *rest: rows.append(tuple(ids.shape)) or inner(ids, *rest))
    requests = [request(0, context(1, 20)), request(1, context(2, 20)), request(2, context(1, 20)), request(3, context(1, 20))]
    found = h.generate(requests)
    assert rows[0] == (2, 20)
    assert rows[1] == (4, 1)
    assert len({g.response_ids for g in found}) == 4
    for r, generation in zip(requests, found, strict=True):
        same(generation, alone([r], FREE)[r.key])


def test_contexts_are_read_by_length_within_the_token_budget(monkeypatch):
    h = host(budget=40)
    read: list[tuple[int, int]] = []
    inner = h._passes.last_logits
    monkeypatch.setattr(h._passes, "last_logits", lambda ids, *rest: read.append(tuple(ids.shape)) or inner(ids, *rest))
    requests = [request(i, context(i, n)) for i, n in enumerate((19, 3, 50, 20, 4))]
    found = h.generate(requests)
    assert [shape for shape in read if shape[1] > 1] == [(2, 4), (2, 20), (1, 50)]
    for r, generation in zip(requests, found, strict=True):
        same(generation, alone([r], FREE)[r.key])


def test_turns_continue_caches_of_conversations_that_left_at_different_times():
    stops = frozenset(range(60, 75))
    h = host(stops)
    first = [request(i, context(i, 5 + 3 * i)) for i in range(5)]
    answers = dict(zip(range(5), h.generate(first), strict=True))
    assert len({len(g.response_ids) for g in answers.values()}) > 2, "all ended together: the test says nothing"
    again = [request(10 + i, r.context_ids + answers[i].response_ids + (80, 81), before=i) for i, r in enumerate(first)]
    batch = h.open_batch()
    batch.admit(again)
    found = {r.key: g for r, g in batch.decode()}
    assert batch.fed_tokens == 5 * 3 + sum(len(g.response_ids) - 1 for g in found.values()), "only what is new is read"
    for key, expected in alone([request(10 + i, r.context_ids) for i, r in enumerate(again)], stops).items():
        same(found[key], expected)


def test_what_several_continue_is_used_up_by_the_last_of_them():
    h = host(budget=1)
    (answer,) = h.generate([request(0, context(0, 9))])
    known = context(0, 9) + answer.response_ids
    again = [request(1, (*known, 80), before=0), request(2, (*known, 81, 82), before=0)]
    batch = h.open_batch()
    batch.admit(again)
    assert h._caches == {}
    found = {r.key: g for r, g in batch.decode()}
    assert batch.fed_tokens == 2 + 3 + 2 * (NEW - 1), "each read what is new to it, the last sampled token included"
    assert set(h._caches) == {1, 2}
    for key, expected in alone([request(1, (*known, 80)), request(2, (*known, 81, 82))], FREE).items():
        same(found[key], expected)


def test_the_last_to_end_leave_nothing_in_the_batch(monkeypatch):
    """Their keys and values exist once: layer by layer what is kept is taken and the batch's own given back."""
    held: list[int] = []
    inner = generation_module.take_rows

    def take(cache, *args, **kwargs):
        taken = inner(cache, *args, **kwargs)
        held.append(sum(layer.key_buffer.numel() + layer.value_buffer.numel() for layer in cache.layers))
        return taken

    monkeypatch.setattr(generation_module, "take_rows", take)
    stops = frozenset(range(60, 75))
    h = host(stops)
    found = h.generate([request(i, context(i, 5 + 3 * i)) for i in range(5)])
    assert len({len(g.response_ids) for g in found}) > 2, "all ended together: the test says nothing"
    assert len(held) > 1
    assert all(held[:-1])
    assert held[-1] == 0
    assert len(h._caches) == 5


def test_a_mask_made_ready_is_the_mask():
    """What is done on a GPU, so that transformers need not look at the mask at every token."""
    h = host(frozenset(range(60, 70)))
    requests = [request(i, context(i, 4 + 5 * i)) for i in range(4)]
    expected = h.generate(requests)
    h.forget()
    h._passes.ready_masks = True
    for found, plain in zip(h.generate(requests), expected, strict=True):
        same(found, plain)


@pytest.mark.parametrize("look_every", [2, 8])
def test_looking_for_finished_rows_less_often_changes_nothing(monkeypatch, look_every):
    """As on a GPU: what rows draw past their end is thrown away."""
    stops = frozenset(range(60, 75))
    requests = [request(i, context(i, 4 + 5 * i)) for i in range(6)]
    expected = alone(requests, stops)
    h = host(stops)
    batch = h.open_batch()
    batch.admit(requests[:3])
    (live,) = batch._batches.values()
    live._look_every = look_every
    found = {r.key: g for r, g in batch.decode(3)}
    batch.admit(requests[3:])
    found |= {r.key: g for r, g in batch.decode()}
    assert set(found) == set(expected)
    for key, generation in found.items():
        same(generation, expected[key])
