"""LoRA adapters on one shared base."""

from __future__ import annotations

import pytest
import torch
from builders import small_model

from collm.config.schema import LoraConfig, OptimizerConfig
from collm.errors import ModelError
from collm.models.adapters import AdapterSwitch
from collm.models.host import Host
from collm.models.rows import DecodeSpec
from collm.models.sampling import SupportRule

CPU = torch.device("cpu")
SPEC = DecodeSpec(SupportRule(), 8, frozenset())


def test_an_adapter_named_like_a_module_gets_its_own_parameters_only():
    switch = AdapterSwitch(small_model().model)
    first, second = switch.add("mlp", LoraConfig(rank=2), 0), switch.add("agent_1", LoraConfig(rank=2), 1)
    assert len(first) == len(second) > 0
    assert not {id(p) for p in first} & {id(p) for p in second}


@pytest.mark.parametrize("targets", ["q_proj,lm_head", "embed_tokens", "no_such_layer"])
def test_targets_that_fit_no_linear_layer_are_refused(targets):
    with pytest.raises(ModelError, match=r"lora\.targets"):
        AdapterSwitch(small_model().model).add("a", LoraConfig(rank=2, targets=targets), 0)


@pytest.mark.parametrize("architecture", ["qwen3", "gpt2"])
def test_merged_weights_have_the_base_s_names_and_the_adapter_s_logits(architecture):
    loaded = small_model(architecture)
    before = {k: v.clone() for k, v in loaded.model.state_dict().items()}
    switch = AdapterSwitch(loaded.model)
    for seed, name in enumerate(("a", "b")):
        for p in switch.add(name, LoraConfig(rank=4), seed):
            p.data.normal_(std=0.2, generator=torch.Generator().manual_seed(seed))
    switch.use("b")
    ids = torch.tensor([[70, 71, 72, 73]])
    expected = loaded.model(ids).logits
    merged = switch.merged_state_dict("b")
    assert set(merged) == set(before)
    plain = small_model(architecture, seed=5).model
    plain.load_state_dict(merged)
    torch.testing.assert_close(plain(ids).logits, expected, rtol=1e-4, atol=1e-5)
    for key, value in loaded.model.state_dict().items():
        if ".base_layer." in key:
            assert torch.equal(value, before[key.replace(".base_layer.", ".")]), f"merging changed the live {key}"


def test_adapters_are_fp32_and_their_export_is_not_rounded_to_the_base_s_bf16(tmp_path):
    loaded = small_model(dtype=torch.bfloat16)
    host = Host("h", loaded, CPU, 10**6, False)
    host.add_policy("a", SPEC, OptimizerConfig(), LoraConfig(rank=2), 0)
    parameters = host.members["a"].parameters
    assert {p.dtype for p in parameters} == {torch.float32}
    base = loaded.model.model.layers[0].self_attn.q_proj.base_layer.weight.float().clone()
    for p in parameters:
        p.data.normal_(std=1e-3, generator=torch.Generator().manual_seed(1))
    host.save("a", tmp_path)
    again = type(loaded.model).from_pretrained(tmp_path)
    assert again.dtype == torch.float32
    moved = (again.model.layers[0].self_attn.q_proj.weight - base).abs()
    assert float((moved > 0).float().mean()) > 0.99
    assert float(moved.max()) < 1e-3


def test_switching_back_and_forth_trains_the_right_adapter():
    host = Host("h", small_model(), CPU, 10**6, False)
    for seed, name in enumerate(("a", "b")):
        host.add_policy(name, SPEC, OptimizerConfig(learning_rate=0.1), LoraConfig(rank=2), seed)
    before = {n: [p.detach().clone() for p in host.members[n].parameters] for n in "ab"}
    from collm.algorithms.losses import PolicyGradientLoss
    from collm.models.optim import Progress
    from collm.models.sequences import PolicySample

    sample = PolicySample((70, 71), (72, 73), {"advantage": 1.0}, "x", {"old_logprob": (float("nan"),) * 2})
    host.score("b", [sample])
    host.accumulate_policy("a", [sample], PolicyGradientLoss())
    host.step("a", Progress(0, 1))
    changed = {n: any(not torch.equal(p, q) for p, q in zip(host.members[n].parameters, before[n], strict=True)) for n in "ab"}
    assert changed == {"a": True, "b": False}
