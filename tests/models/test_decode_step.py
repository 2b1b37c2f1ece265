"""One-token passes without transformers' layers give what transformers' layers give, or are not used."""

from __future__ import annotations

import pytest
import torch
from builders import small_model
from family_tools import COMMON, LONG, MODELS, made, shaken
from transformers import LlamaConfig, Qwen2Config
from transformers.cache_utils import Cache
from transformers.models.llama import modeling_llama

from collm.algorithms.losses import PolicyGradientLoss
from collm.config.schema import LoraConfig, OptimizerConfig
from collm.models import decode_step
from collm.models.adapters import AdapterSwitch
from collm.models.decode_step import DecodeStep
from collm.models.generation import GenerationRequest
from collm.models.host import Host
from collm.models.kv import BufferedLayer, buffered
from collm.models.loading import LoadedModel
from collm.models.passes import DecoderPasses
from collm.models.rows import DecodeSpec
from collm.models.sampling import SupportRule
from collm.models.sequences import PolicySample

CPU = torch.device("cpu")


def pass_through(passes: DecoderPasses, ids_BT: torch.Tensor, mask_BT: torch.Tensor, prompt: int, by_steps: bool) -> torch.Tensor:
    """Logits of the last column after `prompt` tokens were read at once and the others one by one."""
    cache = Cache(layers=[BufferedLayer(ids_BT.shape[1]) for _ in range(passes.model.config.num_hidden_layers)])
    positions_BT = (mask_BT.cumsum(-1) - 1).clamp(min=0)
    passes._lean_fits = by_steps
    logits_BV = passes.last_logits(ids_BT[:, :prompt], mask_BT[:, :prompt], positions_BT[:, :prompt], cache)
    for t in range(prompt, ids_BT.shape[1]):
        logits_BV = passes.last_logits(ids_BT[:, t : t + 1], mask_BT[:, : t + 1], positions_BT[:, t : t + 1], cache)
    return logits_BV


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("padding", [(0, 0, 0), (0, 5, 2)])
@pytest.mark.parametrize("scripted", [True, False])
@torch.no_grad()
def test_steps_give_the_logits_of_transformers_layers(name, padding, scripted, monkeypatch):
    if not scripted:
        monkeypatch.setattr(decode_step, "_all_parts", lambda layers: None)
    model = shaken(MODELS[name]())
    passes = DecoderPasses(model, CPU)
    assert DecodeStep.fits(model)
    ids_BT = torch.randint(0, 90, (3, 40), generator=torch.Generator().manual_seed(1))
    mask_BT = (torch.arange(40) >= torch.tensor(padding)[:, None]).long()
    expected = pass_through(passes, ids_BT, mask_BT, 12, by_steps=False)
    found = pass_through(passes, ids_BT, mask_BT, 12, by_steps=True)
    assert passes._step is not None
    assert (passes._step._parts is not None) == (scripted and "gelu" not in name)
    assert (found - expected).norm() <= 2e-6 * expected.norm()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("padding", [(0, 0, 0), (0, 5, 2)])
@torch.no_grad()
def test_reading_more_gives_the_logits_and_keys_of_transformers_layers(name, padding, monkeypatch):
    """A context in three pieces, as of successive turns."""
    passes = DecoderPasses(shaken(MODELS[name]()), CPU)
    ids_BT = torch.randint(0, 90, (3, 40), generator=torch.Generator().manual_seed(1))
    mask_BT = (torch.arange(40) >= torch.tensor(padding)[:, None]).long()
    positions_BT = (mask_BT.cumsum(-1) - 1).clamp(min=0)
    logits: dict[bool, list[torch.Tensor]] = {False: [], True: []}
    caches: dict[bool, Cache] = {}
    for lean in (False, True):
        passes._lean_fits = lean
        caches[lean] = Cache(layers=[BufferedLayer(40) for _ in range(passes.model.config.num_hidden_layers)])
        for start, stop in ((0, 12), (12, 33), (33, 40)):
            logits[lean].append(passes.last_logits(ids_BT[:, start:stop], mask_BT[:, :stop], positions_BT[:, start:stop], caches[lean]))
            if lean:
                # Only the first is computed in transformers' way, too.
                monkeypatch.setattr(passes, "_model_logits", None)
    for found, expected in zip(logits[True], logits[False], strict=True):
        assert (found - expected).norm() <= 2e-6 * expected.norm()
    for found, expected in zip(buffered(caches[True]), buffered(caches[False]), strict=True):
        real_BL = mask_BT.bool()[:, None, :, None]
        for one, other in ((found.key_buffer, expected.key_buffer), (found.value_buffer, expected.value_buffer)):
            torch.testing.assert_close(one * real_BL, other * real_BL, rtol=0, atol=2e-5)


@torch.no_grad()
def test_steps_apply_the_adapter_of_each_row():
    loaded = small_model("qwen3")
    switch = AdapterSwitch(loaded.model)
    for i, name in enumerate(("a", "b")):
        for p in switch.add(name, LoraConfig(rank=4, targets="q_proj,v_proj,down_proj"), seed=i):
            p.normal_(std=0.2, generator=torch.Generator().manual_seed(i))
    passes = DecoderPasses(loaded.model, CPU)
    ids_BT = torch.randint(0, 90, (1, 20)).expand(4, -1)
    found: dict[bool, torch.Tensor] = {}
    for by_steps in (False, True):
        switch.use_rows(["a", "b", "b", "a"])
        found[by_steps] = pass_through(passes, ids_BT, torch.ones_like(ids_BT), 8, by_steps)
    assert (found[True] - found[False]).norm() <= 2e-6 * found[False].norm()
    assert (found[True][0] - found[True][1]).norm() > 0.1 * found[True][0].norm()
    assert torch.equal(found[True][0], found[True][3])


def test_an_adapter_added_later_is_applied():
    loaded = small_model("qwen3")
    host = Host("h", loaded, CPU, 10**6, False)
    spec = DecodeSpec(SupportRule(), 12, frozenset({-1}))
    host.add_policy("a", spec, OptimizerConfig(), LoraConfig(rank=4), seed=0)
    request = [GenerationRequest("a", 0, None, tuple(range(40, 60)), 0, True)]
    plain = host.generate(request)[0]
    host.add_policy("b", spec, OptimizerConfig(), LoraConfig(rank=4, targets="o_proj,gate_proj"), seed=1)
    with torch.no_grad():
        for p in host.members["b"].parameters:
            p.normal_(std=0.5, generator=torch.Generator().manual_seed(3))
    host.forget()
    other = host.generate([GenerationRequest("b", 1, None, tuple(range(40, 60)), 0, True)])[0]
    host.forget()
    assert other.response_ids != plain.response_ids
    assert host.generate(request)[0].response_ids == plain.response_ids


@torch.no_grad()
def test_each_kind_of_pass_has_a_verdict_of_its_own(monkeypatch):
    """Only the one-token step is wrong: contexts are read as before, whether a run was resumed in between or not."""
    passes = DecoderPasses(shaken(MODELS["qwen3"]()), CPU)
    step = DecodeStep.logits
    monkeypatch.setattr(DecodeStep, "logits", lambda *args: 1.1 * step(*args))
    ids_BT = torch.randint(0, 90, (2, 20))
    expected = pass_through(passes, ids_BT, torch.ones_like(ids_BT), 8, by_steps=False)
    found = pass_through(passes, ids_BT, torch.ones_like(ids_BT), 8, by_steps=True)
    assert passes._lean_agrees == {False: True, True: False}
    assert (found - expected).norm() <= 2e-6 * expected.norm()


@torch.no_grad()
def test_huge_logits_prove_nothing():
    model = MODELS["qwen3"]()
    model.lm_head.bias = torch.nn.Parameter(torch.full((model.config.vocab_size,), torch.finfo().min))
    passes = DecoderPasses(model, CPU)
    ids_BT = torch.randint(0, 90, (2, 20))
    pass_through(passes, ids_BT, torch.ones_like(ids_BT), 8, by_steps=True)
    assert passes._lean_agrees == {False: False, True: False}


@torch.no_grad()
def test_hooks_on_a_live_model_are_called_in_sampling_and_in_scoring():
    loaded = small_model("qwen3")
    allowed = torch.zeros(loaded.model.config.vocab_size, dtype=torch.bool)
    allowed[[5, 6, 7]] = True
    loaded.model.lm_head.register_forward_hook(lambda _, __, logits: logits.masked_fill(~allowed, torch.finfo().min))
    host = Host("h", loaded, CPU, 10**6, False)
    host.add_policy("a", DecodeSpec(SupportRule(), 30, frozenset({-1})), OptimizerConfig(), None, seed=0)
    context = tuple(range(40, 60))
    drawn = host.generate([GenerationRequest("a", 0, None, context, 3, False)])[0]
    assert set(drawn.response_ids) == {5, 6, 7}
    scores = host.score("a", [PolicySample(context, drawn.response_ids, {}, "here")])[0]
    assert sum(scores) == pytest.approx(drawn.logprob, abs=1e-4)


@pytest.mark.parametrize("architecture", ["gpt2", "gemma2"])
def test_other_architectures_are_left_to_transformers(architecture):
    assert not DecodeStep.fits(small_model(architecture).model)


def test_windows_and_moving_rotations_are_left_to_transformers():
    sliding = Qwen2Config(num_key_value_heads=2, use_sliding_window=True, sliding_window=8, max_window_layers=1, **COMMON, **LONG)
    dynamic = LlamaConfig(rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}, **COMMON, **LONG)
    assert not DecodeStep.fits(made(sliding))
    assert not DecodeStep.fits(made(dynamic))


@torch.no_grad()
def test_a_model_that_computes_something_else_is_found_out(monkeypatch):
    """Its modules say it is a Llama; its layers do not."""
    rotate = modeling_llama.apply_rotary_pos_emb
    monkeypatch.setattr(modeling_llama, "apply_rotary_pos_emb", lambda q, k, cos, sin, **rest: rotate(q, k, cos, -sin, **rest))
    passes = DecoderPasses(LoadedModel(MODELS["llama"](), None).model, CPU)  # type: ignore[arg-type]
    ids_BT = torch.randint(0, 90, (2, 20))
    mask_BT = torch.ones_like(ids_BT)
    expected = pass_through(passes, ids_BT, mask_BT, 8, by_steps=False)
    found = pass_through(passes, ids_BT, mask_BT, 8, by_steps=True)
    assert passes._lean_agrees == {False: False, True: False}
    assert torch.equal(found, expected)


@pytest.mark.parametrize("lora", [None, LoraConfig(rank=2)])
def test_with_gradient_checkpointing_tokens_are_still_decoded_by_steps_and_scores_are_those_that_are_trained(lora):
    """transformers sets a hook on the embeddings for it, and a model with hooks is left to its own layers."""
    host = Host("h", small_model("qwen3"), CPU, 4096, gradient_checkpointing=True)
    host.add_policy("a", DecodeSpec(SupportRule(), 6, frozenset()), OptimizerConfig(), lora, 0)
    drawn = host.generate([GenerationRequest("a", b, None, tuple(range(30 + b, 50)), b, False) for b in range(3)])
    assert host.decodes_itself
    samples = [PolicySample(tuple(range(30 + b, 50)), g.response_ids, {"advantage": 1.0}, str(b)) for b, g in enumerate(drawn)]
    scores = host.score("a", samples)
    old = [PolicySample(s.context_ids, s.response_ids, s.data, s.origin, {"old_logprob": x}) for s, x in zip(samples, scores, strict=True)]
    metrics = host.accumulate_policy("a", old, PolicyGradientLoss("sequence", None, 0.0, 0.0))
    assert metrics["max_ratio"] == 1.0
    # An adapter's A has no gradient while its B is zero.
    trained = {n: p for n, p in host.loaded.model.named_parameters() if p.requires_grad and "lora_A" not in n}
    assert trained
    assert all(p.grad is not None and p.grad.norm() > 0 for p in trained.values())
