"""States, of all positions or some, and their gradients are those of transformers' layers, or these are used."""

from __future__ import annotations

import pytest
import torch
from builders import small_model
from family_tools import COMMON, LONG, MODELS, made, shaken
from transformers import Qwen2Config
from transformers.models.llama import modeling_llama
from transformers.models.qwen2 import modeling_qwen2
from transformers.models.qwen3 import modeling_qwen3

from collm.config.schema import LoraConfig
from collm.models import passes as passes_module
from collm.models.adapters import AdapterSwitch
from collm.models.last_layer import gathered
from collm.models.passes import DecoderPasses
from collm.models.sequences import Places, TreeLayout

CPU = torch.device("cpu")
# Out of order, some rows with none, one state twice.
ROWS, COLUMNS = [3, 0, 0, 1, 0, 3], [29, 3, 7, 0, 3, 12]


def places():
    return Places.of(ROWS, COLUMNS, 4, CPU)


def ids():
    return torch.randint(0, 90, (4, 30), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def wide_norms(monkeypatch):
    """transformers' norms round to fp32, in a model of doubles too; these do not, so that bounds may be tight."""

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.variance_epsilon)

    for norm in (modeling_llama.LlamaRMSNorm, modeling_qwen2.Qwen2RMSNorm, modeling_qwen3.Qwen3RMSNorm):
        monkeypatch.setattr(norm, "forward", forward)


def states_and_gradients(passes, model, fit):
    """At the places, and the gradient of a sum in which each state has a direction of its own."""
    model.zero_grad()
    passes._layers_fit = fit
    states_PD = passes.states(ids(), places())
    (states_PD * torch.randn(states_PD.shape, dtype=states_PD.dtype, generator=torch.Generator().manual_seed(2))).sum().backward()
    return states_PD.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def all_states_and_gradients(passes, model, fit, ids_BT, tree):
    """At every position."""
    model.zero_grad()
    passes._layers_fit = fit
    states_BTD = passes.hidden(ids_BT, tree)
    (states_BTD * torch.randn(states_BTD.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))).sum().backward()
    return states_BTD.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def calls(monkeypatch):
    """Counts the passes that stop at the wanted positions."""
    made_passes = []
    inner = passes_module.states_at
    monkeypatch.setattr(passes_module, "states_at", lambda *args: made_passes.append(1) or inner(*args))
    return made_passes


def assert_both_ways_agree(passes, model):
    assert_equal(states_and_gradients(passes, model, fit=True), states_and_gradients(passes, model, fit=False))


def assert_equal(own, theirs):
    (found, gradients), (expected, their_gradients) = own, theirs
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)
    assert gradients.keys() == their_gradients.keys()
    for name, gradient in gradients.items():
        assert float((gradient - their_gradients[name]).norm()) <= 1e-10 * float(their_gradients[name].norm()), name


@pytest.mark.parametrize("name", MODELS)
def test_states_and_gradients_are_those_of_all_positions(name, monkeypatch, wide_norms):
    model = shaken(MODELS[name]().double())
    made_passes = calls(monkeypatch)
    passes = DecoderPasses(model, CPU)
    assert passes._computes_layers()
    assert_both_ways_agree(passes, model)
    assert len(made_passes) == 2


# 0 1 2 3 with the branches 4 5 6 and 7 8, of which the first goes on with 9.
TREE = TreeLayout((4, 3, 2, 1), (-1, 0, 0, 1), (0, 1, 2, 3, 4, 5, 6, 4, 5, 7), ())


@pytest.mark.parametrize("tree", [None, TREE], ids=["texts", "a tree"])
@pytest.mark.parametrize("name", ["qwen3", "qwen2, biases", "rotations: yarn"])
def test_all_states_and_gradients_are_those_of_transformers_layers(name, tree, wide_norms):
    model = shaken(MODELS[name]().double())
    passes = DecoderPasses(model, CPU)
    assert passes.takes_trees()
    ids_BT = ids()[:1, :10] if tree is not None else ids()
    own, theirs = (all_states_and_gradients(passes, model, fit, ids_BT, tree) for fit in (True, False))
    assert_equal(own, theirs)


@pytest.mark.parametrize("targets", [None, "gate_proj", "q_proj,up_proj"])
@pytest.mark.parametrize("name", ["qwen3", "llama"])
def test_under_autocast_as_on_a_gpu(name, targets, monkeypatch):
    """bf16 products over fp32 weights: what is rounded differs, what is computed does not."""
    model = shaken(MODELS[name]())
    if targets is not None:
        adapted(model, targets)
    passes = DecoderPasses(model, CPU)
    monkeypatch.setattr(passes, "autocast", lambda: torch.autocast("cpu", dtype=torch.bfloat16))
    assert passes._computes_layers()
    (found, gradients), (expected, their_gradients) = (states_and_gradients(passes, model, fit) for fit in (True, False))
    assert float((found - expected).norm()) <= 2e-2 * float(expected.norm())
    for name, gradient in gradients.items():
        assert float((gradient - their_gradients[name]).norm()) <= 5e-2 * float(their_gradients[name].norm()), name


def adapted(model, targets: str):
    """With two adapters, the second in use."""
    switch = AdapterSwitch(model)
    for i, name in enumerate(("a", "b")):
        for p in switch.add(name, LoraConfig(rank=4, targets=targets), seed=i):
            torch.nn.init.normal_(p, std=0.2, generator=torch.Generator().manual_seed(i))
    switch.use("b")
    return model


@pytest.mark.parametrize("targets", ["q_proj,k_proj,o_proj,down_proj", "v_proj,gate_proj", "up_proj"])
def test_with_adapters(targets, wide_norms):
    model = adapted(small_model("qwen3").model.double(), targets)
    passes = DecoderPasses(model, CPU)
    assert passes._computes_layers()
    assert_both_ways_agree(passes, model)


@torch.no_grad()
def test_a_padding_id_is_never_read():
    passes = DecoderPasses(shaken(MODELS["qwen3"]().double()), CPU)
    short = passes.states(ids()[:, :16], Places.of([2, 1], [6, 7], 4, CPU))
    other = ids()[:, :16].clone()
    other[:, 8:] = 0
    torch.testing.assert_close(passes.states(other, Places.of([2, 1], [6, 7], 4, CPU)), short, rtol=0, atol=0)


def test_where_it_would_not_pay_all_states_are_computed(monkeypatch):
    made_passes = calls(monkeypatch)
    passes = DecoderPasses(MODELS["qwen3"](), CPU)
    assert passes._computes_layers()
    made_passes.clear()

    def read(wanted: int) -> int:
        passes.states(ids(), Places.of([1] * wanted, list(range(wanted)), 4, CPU))
        return len(made_passes)

    assert [read(16), read(15)] == [0, 1]
    passes.model.train()  # gradient checkpointing
    assert read(15) == 1
    passes.model.eval()
    monkeypatch.setattr(passes_module, "MASK_ELEMENTS", 4 * 15 * 30 - 1)
    assert read(15) == 1


def test_gradients_of_a_place_named_often_are_added_in_order():
    numbers = torch.tensor([1e8, 1.0, -1e8, 1.0, 1e8, -1e8] * 4)
    places_P = torch.tensor([2, 2, 2, 0, 2, 2] * 4)
    expected = torch.zeros(3)
    for place, number in zip(places_P, numbers, strict=True):
        expected[place] += number
    x_BTD = torch.zeros(1, 3, 4096, requires_grad=True)
    found_PD = gathered(x_BTD, torch.zeros_like(places_P), places_P)
    found_PD.backward(numbers[:, None].expand_as(found_PD))
    assert torch.equal(x_BTD.grad, expected[None, :, None].expand_as(x_BTD))
    assert torch.equal(gathered(ids()[..., None].float(), torch.tensor(ROWS), torch.tensor(COLUMNS))[:, 0], ids()[ROWS, COLUMNS].float())


@pytest.mark.parametrize("architecture", ["gpt2", "gemma2"])
def test_other_architectures_are_left_to_transformers(architecture):
    model = small_model(architecture).model
    passes = DecoderPasses(model, CPU)
    assert not passes._computes_layers()
    assert torch.equal(passes.states(ids(), places()), passes.hidden(ids())[ROWS, COLUMNS])


def test_windows_and_eager_attention_are_left_to_transformers():
    sliding = Qwen2Config(num_key_value_heads=2, use_sliding_window=True, sliding_window=8, max_window_layers=1, **COMMON, **LONG)
    assert not DecoderPasses(made(sliding), CPU)._computes_layers()
    eager = MODELS["qwen3"]()
    eager.set_attn_implementation("eager")
    assert not DecoderPasses(eager, CPU)._computes_layers()


@torch.no_grad()
def test_a_model_that_computes_something_else_is_found_out(monkeypatch):
    """Its modules say it is a Llama; its layers do not."""
    rotate = modeling_llama.apply_rotary_pos_emb
    monkeypatch.setattr(modeling_llama, "apply_rotary_pos_emb", lambda q, k, cos, sin, **rest: rotate(q, k, cos, -sin, **rest))
    passes = DecoderPasses(shaken(MODELS["llama"]()), CPU)
    assert not passes._computes_layers()
    assert torch.equal(passes.states(ids(), places()), passes.hidden(ids())[ROWS, COLUMNS])
