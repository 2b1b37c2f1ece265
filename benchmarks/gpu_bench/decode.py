"""Tokens per second of `Host.generate` against the rate at which the weights can be read."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from collm.config.schema import LoraConfig, OptimizerConfig
from collm.models.decode_graph import Record, graphs_on
from collm.models.generation import GenerationRequest
from collm.models.host import Host
from collm.models.rows import DecodeSpec
from collm.models.sampling import SupportRule
from gpu_bench.arithmetic import roof_tokens_per_second, roof_with_cache, share
from gpu_bench.kernels import Roof
from gpu_bench.machine import free_bytes, peak_gb, random_model, release, seconds_of
from gpu_bench.results import Clock, Results, Skipped, needs_memory, run_cases
from gpu_bench.shapes import Shape, Sizes, Tuning

RULES = {"plain": SupportRule(), "paper": SupportRule(temperature=0.6, top_p=0.6)}
REPEATS = 2
RECORDED_TOKENS = 64
"""Enough for a batch's step to be recorded."""


def measure(results: Results, clock: Clock, device: torch.device, sizes: Sizes, roof: Roof) -> None:
    """Every shape with fp32 masters, as full tuning keeps them, and the largest also as a frozen bf16 base with an adapter."""
    cases: list[tuple[Shape, Tuning]] = [*((s, "full") for s in sizes.shapes), (sizes.shapes[-1], "lora")]
    works = [
        ({"model": s.name, "tuning": t}, lambda own, s=s, t=t: _shape(results, "decode", own, device, sizes, roof, s, t)) for s, t in cases
    ]
    run_cases(results, "decode", clock, lambda: release(device), works)


def measure_graphs(results: Results, clock: Clock, device: torch.device, sizes: Sizes, roof: Roof) -> None:
    """The largest and the smallest shape by recorded steps.

    The last section: with torch 2.11 a recording that breaks off leaves the device's random numbers unusable.
    """
    record = graphs_on(device)
    if record is None:
        raise Skipped(f"there are no graphs on a {device.type}")
    works = [
        (
            {"model": s.name, "tuning": "full"},
            lambda own, s=s: _shape(results, "graphs", own, device, sizes, roof, s, "full", Recordings(record)),
        )
        for s in (sizes.shapes[-1], sizes.shapes[0])
    ]
    run_cases(results, "graphs", clock, lambda: release(device), works)


class Recordings:
    """Records steps and counts how often: where they cannot be recorded a host goes on by plain ones, without a word."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self.made = 0

    def __call__(self, work: Callable[[], object]) -> Callable[[], object]:
        replay = self._record(work)
        self.made += 1
        return replay


def _shape(
    results: Results,
    section: str,
    clock: Clock,
    device: torch.device,
    sizes: Sizes,
    roof: Roof,
    shape: Shape,
    tuning: Tuning,
    recordings: Recordings | None = None,
) -> None:
    needs_memory([shape], "lora", free_bytes(device), shape.name)
    clock.needs(1, shape.name)
    host = policy_host(shape, device, tuning, recordings)
    took = 0.0
    for batch in sizes.decode_batches:
        for rule in ("plain", "paper") if batch == sizes.decode_batches[1] else ("plain",):
            clock.needs(took, f"{shape.name} with {batch} rows")
            began = time.perf_counter()
            row = _rate(host, device, sizes, roof, shape, tuning, batch, rule, recordings)
            results.add(section, rows=[row])
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
    host: Host,
    device: torch.device,
    sizes: Sizes,
    roof: Roof,
    shape: Shape,
    tuning: Tuning,
    batch: int,
    rule: str,
    recordings: Recordings | None,
) -> dict[str, Any]:
    """Decoding alone: a call that samples many tokens less one that samples few, both after a call of each kind.

    Few is the first; or where steps are recorded so many that the recording, some steps' time, is in both calls.
    """
    few, more = (1, sizes.decode_tokens) if recordings is None else (RECORDED_TOKENS, 4 * sizes.decode_tokens)
    seconds: dict[int, list[float]] = {}
    for tokens in (few, few + more):
        host.members["policy"].decode = DecodeSpec(RULES[rule], tokens, frozenset({shape.vocabulary}))
        made = recordings.made if recordings is not None else 0
        seconds[tokens] = [seconds_of(lambda: host.generate(_requests(sizes, batch)), device) for _ in range(1 + REPEATS)]
        if recordings is not None and recordings.made < made + 1 + REPEATS:
            raise Skipped(f"{shape.name}, {batch} rows: not every call of {tokens} tokens was decoded by recorded steps")
        host.forget()
    short, long = (min(seconds[tokens][1:]) for tokens in (few, few + more))
    if long <= short:
        raise Skipped(f"{shape.name}, {batch} rows: {few + more} tokens took no longer than {few}")
    rate = batch * more / (long - short)
    cached = sizes.decode_prompt + few + more / 2
    return {
        "model": shape.name,
        "tuning": tuning,
        "rule": rule,
        "batch": batch,
        "tokens_per_second": round(rate, 1),
        "milliseconds_per_step": round(1e3 * (long - short) / more, 3),
        "share_of_roof": share(rate, roof_tokens_per_second(shape, batch, roof.bytes_per_second)),
        "share_of_roof_with_cache": share(rate, roof_with_cache(shape, batch, roof.bytes_per_second, cached)),
        # Contexts read and, where there is one, the recording included.
        "whole_calls": {f"{tokens} tokens": round(batch * tokens / min(took[1:]), 1) for tokens, took in seconds.items()},
        "own_decoding_step": host.decodes_itself,
        "first_call_seconds": round(seconds[few + more][0], 3),
        **peak_gb(device),
    }


def _requests(sizes: Sizes, batch: int) -> list[GenerationRequest]:
    """Contexts that differ in their tokens and a little in their lengths, as those of a batch do."""
    lengths = [sizes.decode_prompt - b % 4 for b in range(batch)]
    return [GenerationRequest("policy", b, None, tuple((7 * b + i) % 997 for i in range(n)), b, False) for b, n in enumerate(lengths)]
