"""Batched generation: against transformers' own, with and without caches, and against teacher forcing."""

from __future__ import annotations

import pytest
import torch
from builders import small_model

from collm.config.schema import LoraConfig, OptimizerConfig
from collm.models.generation import Generation, GenerationRequest
from collm.models.host import Host
from collm.models.loading import LoadedModel
from collm.models.rows import DecodeSpec
from collm.models.sampling import SupportRule
from collm.models.sequences import PolicySample
from collm.types import StopReason

CPU = torch.device("cpu")
# Gemma 2's eager attention takes its softmax in fp32, where an fp64 mask value is -inf: fp32 all through there.
DTYPE = {"gemma2": torch.float32}
CONTEXTS = [tuple(range(70, 70 + n)) for n in (3, 17, 8, 1, 30)]


def host(loaded: LoadedModel, rule: SupportRule = SupportRule(), new: int = 12, stops: frozenset[int] | None = None) -> Host:  # noqa: B008
    made = Host("h", loaded, CPU, 10**6, False)
    stops = stops if stops is not None else frozenset({loaded.tokenizer.eos_token_id})
    made.add_policy("p", DecodeSpec(rule, new, stops), OptimizerConfig(), None, 0)
    return made


def ask(h: Host, contexts, greedy: bool, member: str = "p", seeds=None) -> list[Generation]:
    seeds = seeds or range(len(contexts))
    return h.generate(
        [GenerationRequest(member, (member, i), (member, i), c, s, greedy) for i, (c, s) in enumerate(zip(contexts, seeds, strict=True))]
    )


@pytest.mark.parametrize("architecture", ["qwen3", "llama", "gpt2", "gemma2"])
def test_greedy_equals_transformers_generate_row_by_row(architecture):
    loaded = small_model(architecture, dtype=DTYPE.get(architecture, torch.float64))
    found = ask(host(loaded), CONTEXTS, greedy=True)
    for context, generation in zip(CONTEXTS, found, strict=True):
        ids = torch.tensor([context])
        out = loaded.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False, pad_token_id=0)
        assert generation.response_ids == tuple(out[0, len(context) :].tolist())


@pytest.mark.parametrize("architecture", ["qwen3", "gpt2", "gemma2"])
def test_three_turns_with_carried_caches_equal_fresh_ones(architecture):
    loaded = small_model(architecture, dtype=DTYPE.get(architecture, torch.float64))
    carried = host(loaded)
    contexts = list(CONTEXTS)
    for turn in range(3):
        fresh = host(loaded)
        with_cache, without = ask(carried, contexts, True), ask(fresh, contexts, True)
        assert [g.response_ids for g in with_cache] == [g.response_ids for g in without]
        assert [g.logprob for g in with_cache] == pytest.approx([g.logprob for g in without], abs=1e-4)
        # Ragged continuations; one row jumps to an unrelated context, one is cut back to a prefix.
        contexts = [c + g.response_ids + tuple(range(80, 82 + i)) for i, (c, g) in enumerate(zip(contexts, with_cache, strict=True))]
        if turn == 1:
            contexts[2] = tuple(range(90, 99))
            contexts[4] = contexts[4][:5]


def test_carried_caches_save_the_prefix(monkeypatch):
    h = host(small_model())
    fed: list[int] = []
    inner = h._passes.last_logits

    def count(ids_BT, *rest):
        fed.append(ids_BT.shape[1])
        return inner(ids_BT, *rest)

    monkeypatch.setattr(h._passes, "last_logits", count)
    (first,) = ask(h, [tuple(range(40, 90))], True)
    ask(h, [tuple(range(40, 90)) + first.response_ids + (50, 51)], True)
    prefills = [n for n in fed if n > 1]
    # The second call feeds only the last sampled token, which had no keys yet, and the two new ones.
    assert prefills == [50, 3]


def test_stop_reasons_limits_and_closing_token():
    loaded = small_model()
    free = ask(host(loaded, new=5, stops=frozenset()), CONTEXTS, True)
    assert all(g.stop is StopReason.LENGTH and len(g.response_ids) == 5 for g in free)
    third = free[1].response_ids[2]
    (stopped,) = ask(host(loaded, new=5, stops=frozenset({third})), [CONTEXTS[1]], True)
    at = free[1].response_ids.index(third)
    assert stopped.stop is StopReason.EOS
    assert stopped.response_ids == free[1].response_ids[: at + 1]


def test_rows_that_finish_early_leave_the_others_alone():
    loaded = small_model(dtype=torch.float64)
    alone = [ask(host(loaded, new=20), [c], False, seeds=[i])[0] for i, c in enumerate(CONTEXTS)]
    # Stop ids picked so that rows end at different steps and the batch shrinks on the way.
    stops = frozenset({alone[0].response_ids[2], alone[1].response_ids[5], alone[3].response_ids[0]})
    together = ask(host(loaded, new=20, stops=stops), CONTEXTS, False)
    lengths = set()
    for i, context in enumerate(CONTEXTS):
        (single,) = ask(host(loaded, new=20, stops=stops), [context], False, seeds=[i])
        assert together[i].response_ids == single.response_ids
        lengths.add(len(single.response_ids))
    assert len(lengths) > 2


@pytest.mark.parametrize("rule", [SupportRule(), SupportRule(0.6, 0.6), SupportRule(1.4, 0.95, 20), SupportRule(0.8, 1.0, 5)])
@pytest.mark.parametrize("architecture", ["qwen3", "gemma2"])
def test_behaviour_logprob_equals_the_teacher_forced_one(rule, architecture):
    loaded = small_model(architecture, dtype=DTYPE.get(architecture, torch.float64))
    h = host(loaded, rule)
    found = ask(h, CONTEXTS, False)
    scored = h.score("p", [PolicySample(c, g.response_ids, {}, "") for c, g in zip(CONTEXTS, found, strict=True)])
    assert [sum(s) for s in scored] == pytest.approx([g.logprob for g in found], abs=1e-4)
    if rule.truncates:
        assert all(g.kept_mass < 1 for g in found)
    else:
        assert all(g.kept_mass == 1 for g in found)


def test_adapters_of_one_base_are_generated_in_one_batch():
    loaded = small_model(dtype=torch.float64)
    h = Host("h", loaded, CPU, 10**6, False)
    spec = DecodeSpec(SupportRule(), 10, frozenset())
    for i, name in enumerate(("a", "b")):
        h.add_policy(name, spec, OptimizerConfig(), LoraConfig(rank=4), seed=i)
        with torch.no_grad():
            for p in h.members[name].parameters:
                p.normal_(std=0.3, generator=torch.Generator().manual_seed(i))
    assert h.mixes_adapters
    requests = [GenerationRequest("ab"[i % 2], i, i, c, i, True) for i, c in enumerate(CONTEXTS)]
    mixed = h.generate(requests)
    h.forget()
    single = [h.generate([r])[0] for r in requests]
    assert [g.response_ids for g in mixed] == [g.response_ids for g in single]
    swapped = h.generate([GenerationRequest("ba"[i % 2], (i,), (i,), c, i, True) for i, c in enumerate(CONTEXTS)])
    assert [g.response_ids for g in swapped] != [g.response_ids for g in mixed]
