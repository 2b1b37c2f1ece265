"""Tokens per second of `Host.generate` against the rate at which the weights can be read."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import torch

from collm.config.schema import LoraConfig, OptimizerConfig
from collm.models.decode_graph import Record, graphs_on
from collm.models.generation import GenerationRequest
from collm.models.host import Host
from collm.models.rows import DecodeSpec
from collm.models.sampling import SupportRule
from gpu_bench.arithmetic import roof_tokens_per_second, roof_with_cache
from gpu_bench.kernels import Roof
from gpu_bench.machine import free_bytes, peak_gb, random_model, release, seconds_of
from gpu_bench.results import Clock, Results, Skipped, attempt, needs_memory
from gpu_bench.shapes import Shape, Sizes, Tuning

RULES = {"plain": SupportRule(), "paper": SupportRule(temperature=0.6, top_p=0.6)}
REPEATS = 2


def measure(results: Results, clock: Clock, device: torch.device, sizes: Sizes, roof: Roof) -> None:
    """Every shape with fp32 masters, as full tuning keeps them, and the largest also as a frozen bf16 base with an adapter.

    On a GPU the largest and the smallest are decoded by recorded steps, too.
    """
    cases: list[tuple[Shape, Tuning, bool]] = [*((s, "full", False) for s in sizes.shapes), (sizes.shapes[-1], "lora", False)]
    if device.type == "cuda":
        cases += [(sizes.shapes[-1], "full", True), (sizes.shapes[0], "full", True)]
    for number, case in enumerate(cases):
        own = clock.part(clock.left() / (len(cases) - number))
        ended = attempt(lambda case=case, own=own: _as_labelled(lambda: _shape(results, own, device, sizes, roof, *case)))
        release(device)
        if ended:
            shape, tuning, graphs = case
            results.add("decode", left_out=[{"model": shape.name, "tuning": tuning, "graphs": graphs, "reason": ended["reason"]}])


def _as_labelled(work: Callable[[], None]) -> None:
    """Where recording fails, plain steps would go on in its name: leave the case out instead."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="decoding goes on without CUDA graphs")
        try:
            work()
        except UserWarning as warning:
            raise Skipped(str(warning)) from warning


def _shape(
    results: Results, clock: Clock, device: torch.device, sizes: Sizes, roof: Roof, shape: Shape, tuning: Tuning, graphs: bool
) -> None:
    needs_memory([shape], "lora", free_bytes(device), shape.name)
    clock.needs(1, shape.name)
    host = policy_host(shape, device, tuning, graphs_on(device) if graphs else None)
    took = 0.0
    for batch in sizes.decode_batches:
        for rule in ("plain", "paper") if batch == sizes.decode_batches[1] else ("plain",):
            clock.needs(took, f"{shape.name} with {batch} rows")
            began = time.perf_counter()
            results.add("decode", rows=[{"graphs": graphs, **_rate(host, device, sizes, roof, shape, tuning, batch, rule)}])
            took = time.perf_counter() - began


def policy_host(shape: Shape, device: torch.device, tuning: Tuning, record: Record | None = None) -> Host:
    """A host with one policy: all weights in fp32, or an adapter on a frozen bf16 base."""
    loaded = random_model(shape, device, torch.float32 if tuning == "full" else torch.bfloat16)
    host = Host(shape.name, loaded, device, 16384, gradient_checkpointing=True)
    host.record_steps(record)
    spec = DecodeSpec(SupportRule(), 1, frozenset({shape.vocabulary}))
    host.add_policy("policy", spec, OptimizerConfig(), LoraConfig() if tuning == "lora" else None, seed=0)
    return host


def _rate(
    host: Host, device: torch.device, sizes: Sizes, roof: Roof, shape: Shape, tuning: Tuning, batch: int, rule: str
) -> dict[str, Any]:
    """Decoding alone: a call that samples many tokens less one that samples the first, both after a call of each kind."""
    seconds: dict[int, list[float]] = {}
    for tokens in (1, sizes.decode_tokens):
        host.members["policy"].decode = DecodeSpec(RULES[rule], tokens, frozenset({shape.vocabulary}))
        seconds[tokens] = [seconds_of(lambda: host.generate(_requests(sizes, batch)), device) for _ in range(1 + REPEATS)]
        host.forget()
    first, many = (min(seconds[tokens][1:]) for tokens in (1, sizes.decode_tokens))
    steps = sizes.decode_tokens - 1
    if many <= first:
        raise Skipped(f"{shape.name}, {batch} rows: {sizes.decode_tokens} tokens took no longer than one")
    rate = batch * steps / (many - first)
    limit = roof_tokens_per_second(shape, batch, roof.bytes_per_second)
    cached = sizes.decode_prompt + sizes.decode_tokens / 2
    return {
        "model": shape.name,
        "tuning": tuning,
        "rule": rule,
        "batch": batch,
        "tokens_per_second": round(rate, 1),
        "milliseconds_per_step": round(1e3 * (many - first) / steps, 3),
        "roof_tokens_per_second": round(limit, 1),
        "share_of_roof": round(rate / limit, 4),
        "share_of_roof_with_cache": round(rate / roof_with_cache(shape, batch, roof.bytes_per_second, cached), 4),
        "first_token_milliseconds": round(1e3 * first, 2),
        "first_call_seconds": round(seconds[sizes.decode_tokens][0], 3),
        **peak_gb(device),
    }


def _requests(sizes: Sizes, batch: int) -> list[GenerationRequest]:
    """Contexts that differ in their tokens and a little in their lengths, as those of a batch do."""
    lengths = [sizes.decode_prompt - b % 4 for b in range(batch)]
    return [GenerationRequest("policy", b, None, tuple((7 * b + i) % 997 for i in range(n)), b, False) for b, n in enumerate(lengths)]
