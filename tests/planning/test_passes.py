"""What comes and goes: traced on fake tensors, it is what real passes allocate."""

from __future__ import annotations

import pytest
import torch
from builders import small_model
from run_tools import agent, model_folder, toy_config
from torch import nn

from collm.models.fused_head import LinearHead
from collm.models.host import Host
from collm.models.kv import BufferedLayer, assemble, take_rows
from collm.models.passes import DecoderPasses
from collm.planning.architecture import read_architecture
from collm.planning.block_head import head_in_one_block
from collm.planning.depth import PassPeaks, at_full_depth
from collm.planning.generation_cost import Generator, cache_bytes_per_token
from collm.planning.live_bytes import LiveBytes
from collm.planning.predict import predict
from collm.planning.workload import Expected


def no_autocast():
    return torch.autocast("cpu", enabled=False)


@pytest.mark.parametrize("positions", [200, 3000])
def test_one_block_takes_what_all_blocks_of_the_fused_head_take(positions):
    linear = nn.Linear(32, 9000, bias=False)
    linear.weight.grad = torch.zeros_like(linear.weight)
    hidden_PD = torch.zeros(positions, 32, requires_grad=True)

    def peak(statistics) -> int:
        hidden_PD.grad = torch.zeros_like(hidden_PD)
        with LiveBytes([hidden_PD, hidden_PD.grad, linear.weight, linear.weight.grad]) as meter:
            statistics()[0].sum().backward()
        return meter.peak

    head = LinearHead(linear, no_autocast)
    real = peak(lambda: head.statistics(hidden_PD, torch.zeros(positions, dtype=torch.long), None, True))
    assert peak(lambda: head_in_one_block(hidden_PD, linear.weight, None, on_gpu=False)) == pytest.approx(real, rel=0.05)


def test_cache_bytes_are_those_of_real_buffers_and_rows(tmp_path):
    folder = model_folder(tmp_path / "model")
    loaded = small_model()
    per_token = cache_bytes_per_token(Generator(read_architecture(folder), torch.float32, (), False))
    cache, _ = assemble([None] * 3, [0] * 3, 2, 12)
    passes = DecoderPasses(loaded.model, torch.device("cpu"))
    ids = torch.ones(3, 10, dtype=torch.long)
    with torch.no_grad():
        passes.last_logits(ids, torch.ones_like(ids), torch.arange(10).expand(3, 10), cache)
    buffers = [t for layer in cache.layers if isinstance(layer, BufferedLayer) for t in (layer.key_buffer, layer.value_buffer)]
    assert sum(t.untyped_storage().nbytes() for t in buffers) == 3 * 12 * per_token
    row = take_rows(cache, [1], torch.ones(2, 10, dtype=torch.long), [(1,) * 10], emptying=False)[0]
    assert sum(t.untyped_storage().nbytes() for layer in row.layers for t in layer) == 10 * per_token


def test_a_deep_models_peak_from_shallow_ones(tmp_path):
    class Deep:
        layers = 12

        def sample_depths(self) -> tuple[int, int]:
            return 2, 4

    # Per layer 10 are kept; the head takes 30; the gradients of tied embeddings 100, once the layers' are freed.
    found = at_full_depth(Deep(), lambda d: PassPeaks(max(10 * d + 30, 100), 10 * d + 30, 10 * d))  # type: ignore[arg-type]
    assert found == PassPeaks(150, 150, 120)


def test_checkpointing_and_smaller_batches_take_less(tmp_path):
    model = model_folder(tmp_path / "model")

    def update(**training) -> int:
        config = toy_config(
            [agent(model), agent(model)],
            {"model": model},
            method="collm-cc",
            context_window=256,
            training={"updates": 1, "episodes_per_update": 16, **training},
        )
        return predict(config, lambda _: None, "cpu", Expected(256, 2)).devices[0].needed("update")

    full = update(micro_batch_tokens=4096)
    assert update(micro_batch_tokens=1024) < full
    assert update(micro_batch_tokens=4096, gradient_checkpointing=True) < full


def test_the_update_traced_on_fake_tensors_is_the_real_ones(tmp_path, monkeypatch):
    """A real host's pass over the largest micro-batch, measured by the same meter."""
    # The plan takes all of the last layer, as trees and long responses do.
    monkeypatch.setattr(DecoderPasses, "_spares", lambda *_: False)
    from collm.algorithms.losses import PolicyGradientLoss
    from collm.config.schema import OptimizerConfig
    from collm.models.rows import DecodeSpec
    from collm.models.sampling import SupportRule
    from collm.models.sequences import PolicySample
    from collm.planning.update_cost import Trained, policy_pass
    from collm.planning.workload import Batch

    folder = model_folder(tmp_path / "model")
    host = Host("host", small_model(), torch.device("cpu"), 4096, False)
    host.add_policy("agent_0", DecodeSpec(SupportRule(), 40, {0}), OptimizerConfig(), None, 0)
    samples = [
        PolicySample((i + 1,) + (1,) * 59, (2,) * 40, {"advantage": 1.0}, "", token_data={"old_logprob": (0.0,) * 40}) for i in range(4)
    ]
    held = list(host.loaded.model.parameters())
    for p in held:
        p.grad = torch.zeros_like(p)
    with LiveBytes([*held, *(p.grad for p in held if p.grad is not None), *host.loaded.model.buffers()]) as meter:
        host.accumulate_policy("agent_0", samples, PolicyGradientLoss())
    batch = Batch(4, 100, ((60, 100),))
    planned = policy_pass(
        Trained(read_architecture(folder), "causal", torch.float32, None, False, False), batch, SupportRule(), "none", None
    )
    assert planned.activations + planned.logits == pytest.approx(meter.peak, rel=0.1)
