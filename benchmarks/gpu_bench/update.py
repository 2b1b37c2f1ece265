"""Tokens per second and model FLOPs utilisation of a policy's update: forward, backward, optimizer step."""

from __future__ import annotations

import math
import time

import torch

from collm.algorithms.losses import PolicyGradientLoss
from collm.models.host import Host
from collm.models.optim import Progress
from collm.models.sequences import PolicySample
from gpu_bench.arithmetic import share, update_flops
from gpu_bench.decode import policy_host
from gpu_bench.kernels import Roof
from gpu_bench.machine import free_bytes, peak_gb, release, seconds_of
from gpu_bench.results import Clock, Results, needs_memory, run_cases
from gpu_bench.shapes import Shape, Sizes, Tuning

REPEATS = 2


def measure(results: Results, clock: Clock, device: torch.device, sizes: Sizes, roof: Roof) -> None:
    cases: list[tuple[Shape, Tuning]] = [(shape, tuning) for shape in sizes.shapes for tuning in ("lora", "full")]
    works = [
        ({"model": shape.name, "tuning": tuning}, lambda own, s=shape, t=tuning: _case(results, own, device, sizes, roof, s, t))
        for shape, tuning in cases
    ]
    run_cases(results, "update", clock, lambda: release(device), works)


def _case(results: Results, clock: Clock, device: torch.device, sizes: Sizes, roof: Roof, shape: Shape, tuning: Tuning) -> None:
    needs_memory([shape], tuning, free_bytes(device), f"{shape.name}, {tuning}")
    clock.needs(1, shape.name)
    host = policy_host(shape, device, tuning)
    samples = _samples(sizes)
    lengths = [len(s.context_ids) + len(s.response_ids) for s in samples]
    began = time.perf_counter()
    _update(host, samples)
    clock.needs(2 * REPEATS * (time.perf_counter() - began), f"{shape.name}, {tuning}, after its first update")
    gradient = min(seconds_of(lambda: _gradient(host, samples), device) for _ in range(REPEATS))
    seconds = min(seconds_of(lambda: _update(host, samples), device) for _ in range(REPEATS))
    flops = update_flops(shape, lengths, sum(len(s.response_ids) for s in samples), tuning)
    found = {
        "model": shape.name,
        "tuning": tuning,
        "gradient_checkpointing": True,
        "tokens": sum(lengths),
        "tokens_per_second": round(sum(lengths) / seconds, 1),
        "seconds": round(seconds, 4),
        "seconds_forward_and_backward": round(gradient, 4),
        # Shares of the matmul rate that was measured here.
        "mfu": share(flops / seconds, roof.flops_per_second),
        "mfu_forward_and_backward": share(flops / gradient, roof.flops_per_second),
        **peak_gb(device),
    }
    results.add("update", rows=[found])


def _samples(sizes: Sizes) -> list[PolicySample]:
    """Contexts of their own, so that nothing is shared and every token is computed."""
    found: list[PolicySample] = []
    for i in range(sizes.update_samples):
        context = tuple((13 * i + 7 * k + 1) % 991 for k in range(sizes.context))
        response = tuple((17 * i + 5 * k + 2) % 983 for k in range(sizes.response))
        # NaN: sampled by the very policy that learns from it, as on-policy samples are.
        old = {"old_logprob": (math.nan,) * len(response)}
        found.append(PolicySample(context, response, {"advantage": 1.0 - 2 * (i % 2)}, f"sample {i}", old))
    return found


def _gradient(host: Host, samples: list[PolicySample]) -> None:
    host.accumulate_policy("policy", samples, PolicyGradientLoss("sequence", None, 0.0, 0.0))
    host.discard_gradients()


def _update(host: Host, samples: list[PolicySample]) -> None:
    host.accumulate_policy("policy", samples, PolicyGradientLoss("sequence", None, 0.0, 0.0))
    host.step("policy", Progress(0, 1))
