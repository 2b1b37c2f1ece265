"""Lines 16 and 17 of the project's list of pitfalls (pitfalls.md): numbers too coarse to learn with.

Each test bears the number of the line it rules out; where a line names several defects, each has a test.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from builders import small_model
from pitfalls.pitfall_tools import CPU, live_models, make_config, make_team, training_sample
from run_tools import agent, model_folder, toy_config
from toy_envs import LettersEnv

from collm.algorithms.losses import PolicyGradientLoss, SquaredValueLoss
from collm.config.schema import LoraConfig, OptimizerConfig
from collm.errors import ConfigError, ModelError
from collm.models.host import Host
from collm.models.optim import Progress
from collm.models.rows import DecodeSpec
from collm.models.sampling import SupportRule
from collm.models.sequences import PolicySample, ValueInput
from collm.models.team import build_team
from collm.training.trainer import Trainer

START = Progress(0, 10)
SAMPLES = [training_sample(tuple(range(70, 80)), (100, 101, 102), 1.0), training_sample((40, 41), (103, 104), -0.5)]
DEFAULT_RATE = 5e-6


def same_in_bf16(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    return before.bfloat16() == after.bfloat16()


def bf16_lora_host(value_head: bool = False) -> Host:
    """A policy and a critic as adapters of one bf16 base."""
    host = Host("h", small_model("qwen3", dtype=torch.bfloat16), CPU, 10**6, False)
    host.add_policy("p", DecodeSpec(SupportRule(), 8, frozenset()), OptimizerConfig(), LoraConfig(rank=4), 0)
    host.add_critic("critic", 1, OptimizerConfig(), LoraConfig(rank=4), 1)
    head = host.members["critic"].value_head
    assert head is not None
    with torch.no_grad():
        head.linear.weight.normal_(std=0.1, generator=torch.Generator().manual_seed(5))
    return host


# -- 16: master weights -------------------------------------------------------------------------------------------------


def test_pitfall_16_a_step_of_5e6_moves_nearly_all_weights_of_a_full_tuned_model(tmp_path):
    """Kept in bf16, most weights would be the very same after the step: here a bf16 checkpoint is trained in fp32 by default."""
    folder = model_folder(tmp_path / "bf16", dtype=torch.bfloat16)
    config = toy_config([{"model": folder, "max_new_tokens": 6}], {"model": folder}, method="collm-cc")
    assert config.agents[0].optimizer.learning_rate == DEFAULT_RATE
    team = build_team(config, ["agent_0"], {"critic": ("agent_0",)}, 2, {})
    host = team.policies["agent_0"].host
    parameters = host.members["agent_0"].parameters
    assert {p.dtype for p in parameters} == {torch.float32}
    assert {p.dtype for p in team.critics["critic"].host.members["critic"].parameters} == {torch.float32}
    host.accumulate_policy("agent_0", SAMPLES, PolicyGradientLoss())
    before = [p.detach().clone() for p in parameters]
    # Gradients that are 0 but for rounding say nothing about the weights' type.
    pulled = [p.grad.abs() > 1e-6 * p.grad.abs().max() for p in parameters]
    assert sum(int(m.sum()) for m in pulled) > 0.9 * sum(m.numel() for m in pulled)
    host.step("agent_0", START)
    moved, in_bf16 = [], []
    for p, old, mask in zip(parameters, before, pulled, strict=True):
        moved += (p.detach() != old)[mask].tolist()
        in_bf16 += (~same_in_bf16(old, p.detach()))[mask].tolist()
        assert float((p.detach() - old).abs().max()) <= 1.01 * DEFAULT_RATE
    assert np.mean(moved) > 0.99
    assert np.mean(in_bf16) < 0.2, "bf16 would have done as well: the test says nothing"


def test_pitfall_16_full_tuning_in_bf16_is_refused_in_a_configuration():
    """Accepted, it would train a few per cent of the weights."""
    for section in ({"agents": [agent("x", dtype="bfloat16")]}, {"agents": [agent("x")], "critic": {"dtype": "bfloat16"}}):
        with pytest.raises(ConfigError, match=r"dtype: bfloat16 contradicts tuning: full .*bf16 weights lose Adam steps near 5e-6"):
            toy_config(section["agents"], section.get("critic", {}))


@pytest.mark.parametrize("member", ["agent_0", "critic"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_pitfall_16_full_tuning_of_a_live_half_precision_model_is_refused(member, dtype):
    """No configuration sees the type of a live model: the team has to look."""
    config = make_config(n=1)
    live = {**live_models(config), member: small_model("qwen3", dtype=dtype)}
    with pytest.raises(ModelError, match=rf"models\['{member}'\] is in torch.{str(dtype)[6:]}, in which small Adam steps round to nothing"):
        make_team(config, live)


def test_pitfall_16_adapters_are_fp32_over_a_bf16_base():
    """Adapters of the base's own type would stand still like bf16 weights; the frozen base may be coarse."""
    host = bf16_lora_host()
    parameters = host.members["p"].parameters
    assert {p.dtype for p in parameters} == {torch.float32}
    ids = {id(p) for m in host.members.values() for p in m.parameters}
    base = {n: p for n, p in host.loaded.model.named_parameters() if id(p) not in ids}
    assert {p.dtype for p in base.values()} == {torch.bfloat16}
    frozen = {n: p.detach().clone() for n, p in base.items()}
    with torch.no_grad():  # B starts at 0, which any step moves in any type
        for p in parameters:
            p.normal_(std=0.1, generator=torch.Generator().manual_seed(p.numel()))
    before = [p.detach().clone() for p in parameters]
    host.accumulate_policy("p", SAMPLES, PolicyGradientLoss())
    pulled = [p.grad.abs() > 1e-6 * p.grad.abs().max() for p in parameters]
    host.step("p", START)
    changes = list(zip(parameters, before, pulled, strict=True))
    moved = np.concatenate([(p.detach() != old)[mask].numpy() for p, old, mask in changes])
    in_bf16 = np.concatenate([(~same_in_bf16(old, p.detach()))[mask].numpy() for p, old, mask in changes])
    assert len(moved) > 1000
    assert moved.mean() > 0.99
    assert in_bf16.mean() < 0.2
    assert all(torch.equal(p, frozen[n]) for n, p in base.items())


# -- 17: log-softmax, values and targets --------------------------------------------------------------------------------


def test_pitfall_17_the_log_softmax_is_fp32_over_a_bf16_base():
    """The probabilities of all 260 one-token responses sum to 1 in fp32; a bf16 log-softmax misses that in the third digit."""
    host = bf16_lora_host()
    vocabulary = host.loaded.model.config.vocab_size
    context = tuple(range(70, 80))
    scores = host.score("p", [PolicySample(context, (token,), {}, "") for token in range(vocabulary)])
    logprobs = torch.tensor([s for (s,) in scores], dtype=torch.float64)
    assert float(logprobs.exp().sum()) == pytest.approx(1.0, abs=2e-5)
    assert abs(float(logprobs.bfloat16().double().exp().sum()) - 1.0) > 2e-4, "bf16 would have done as well: the test says nothing"


@pytest.mark.parametrize("rule", [SupportRule(), SupportRule(0.7, 0.9, 40)])
def test_pitfall_17_statistics_of_the_loss_are_fp32_over_a_bf16_base(rule):
    """Log-probabilities, entropies and advantages must reach the loss unrounded."""
    host = Host("h", small_model("qwen3", dtype=torch.bfloat16), CPU, 10**6, False)
    host.add_policy("p", DecodeSpec(rule, 8, frozenset()), OptimizerConfig(), LoraConfig(rank=4), 0)
    fine = 1.0009765625  # 1 + 2^-10 lies between two numbers of bf16
    seen = {}

    class Watching(PolicyGradientLoss):
        def __call__(self, output, data):
            seen.update({k: getattr(output, k).dtype for k in ("logprob_BT", "entropy_BT", "kept_mass_BT", "logprob_B")})
            seen["advantage"] = data["advantage"].tolist()
            return super().__call__(output, data)

    (score,) = host.score("p", [SAMPLES[0]])
    host.accumulate_policy("p", [training_sample(SAMPLES[0].context_ids, SAMPLES[0].response_ids, fine)], Watching())
    assert seen.pop("advantage") == [fine]
    assert set(seen.values()) == {torch.float32}
    rounded = torch.tensor(score).bfloat16().tolist()
    assert all(abs(a - b) > 1e-6 for a, b in zip(score, rounded, strict=True))


def test_pitfall_17_value_heads_and_values_are_fp32_over_a_bf16_base():
    """A bf16 head or value could not tell 1 from 1 + 2^-10, a hundredth of a typical TD error."""
    host = bf16_lora_host()
    head = host.members["critic"].value_head
    assert head is not None
    assert {p.dtype for p in head.parameters()} == {torch.float32}
    features = [(0.0,), (2.0**-10,)]
    inputs = [ValueInput(tuple(range(70, 80)), (9,), (f,), {}, "") for f in features]
    with torch.no_grad():
        head.linear.weight[0, -1] = 1.0
        head.linear.bias += 1.0 - host.values("critic", inputs[:1])[0][0]
    (first,), (second,) = host.values("critic", inputs)
    assert first == pytest.approx(1.0, abs=1e-6)
    assert second - first == pytest.approx(2.0**-10, abs=1e-6)


def test_pitfall_17_value_targets_are_fp32_over_a_bf16_base():
    """A target rounded to bf16 would be off by up to 0.4 %."""
    host = bf16_lora_host()
    fine = 1.0009765625
    value_input = ValueInput(tuple(range(70, 80)), (4, 9), ((0.0,), (1.0,)), {"target": (fine, -fine), "old_value": (0.0, 0.0)}, "")
    ((first, second),) = host.values("critic", [value_input])
    seen = {}

    def watching(values_P, data):
        seen.update(values=values_P.dtype, target=data["target"].tolist(), dtype=data["target"].dtype)
        return SquaredValueLoss(None)(values_P, data)

    metrics = host.accumulate_values("critic", [value_input], watching)
    assert seen == {"values": torch.float32, "target": [fine, -fine], "dtype": torch.float32}
    assert metrics["loss"] == pytest.approx(((fine - first) ** 2 + (fine + second) ** 2) / 2, rel=1e-5)


# -- 17: clipping, schedule and warm-up ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "norm"), [(0.25, 0.25), (None, None), (1e6, None)])
def test_pitfall_17_gradients_are_clipped_to_the_configured_norm(limit, norm, monkeypatch):
    """Without clipping the optimizer would see the whole gradient. Clipping is on by default."""
    assert OptimizerConfig().gradient_clip == 1.0
    host = Host("h", small_model("gpt2", dtype=torch.float64), CPU, 10**6, False)
    host.add_policy("p", DecodeSpec(SupportRule(), 8, frozenset()), OptimizerConfig(gradient_clip=limit), None, 0)
    member = host.members["p"]
    host.accumulate_policy("p", SAMPLES, PolicyGradientLoss())
    whole = math.sqrt(sum(float(p.grad.square().sum()) for p in member.parameters if p.grad is not None))
    assert whole > 1.0
    seen = []

    def watch(optimizer, *args) -> None:
        seen.append(math.sqrt(sum(float(p.grad.square().sum()) for p in member.parameters if p.grad is not None)))

    member.optimizer.register_step_pre_hook(watch)
    assert host.step("p", START) == pytest.approx(whole, rel=1e-9)
    assert seen == pytest.approx([norm or whole], rel=1e-4)


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("constant", [1 / 3, 2 / 3, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [1 / 3, 2 / 3, 1.0, 0.75, 0.5, 0.25]),
        ("cosine", [1 / 3, 2 / 3, *(0.5 * (1 + math.cos(math.pi * k / 4)) for k in range(4))]),
    ],
)
def test_pitfall_17_warm_up_and_schedule_act_on_every_member(schedule, rates, tmp_path):
    """Accepted and unused, they would leave the learning rate at its peak from the first step to the last."""
    peak = {"learning_rate": 1e-3, "schedule": schedule, "warmup_updates": 2, "gradient_clip": None}
    config = make_config(
        n=1,
        agent_changes={"optimizer": peak, "max_new_tokens": 2},
        critic={"optimizer": peak},
        training={"updates": 6, "episodes_per_update": 1},
    )
    trainer = Trainer(config, tmp_path / "run", models=live_models(config), env=lambda: LettersEnv(n=1, turns=1, base=1.0))
    found: dict[str, list[float]] = {}
    for host in trainer.team.hosts.values():
        for name, member in host.members.items():
            before = [p.detach().clone() for p in member.parameters]

            def watch(optimizer, args, kwargs, name=name, member=member, before=before) -> None:
                found.setdefault(name, []).append(optimizer.param_groups[0]["lr"])
                if len(found[name]) == 1:
                    # Adam's first step has the size of the learning rate, where there is a gradient.
                    largest = max(float((p.detach() - b).abs().max()) for p, b in zip(member.parameters, before, strict=True))
                    assert largest == pytest.approx(rates[0] * 1e-3, rel=1e-3)

            member.optimizer.register_step_post_hook(watch)
    trainer.run()
    assert found == {name: pytest.approx([1e-3 * rate for rate in rates], rel=1e-9) for name in ("agent_0", "critic")}
