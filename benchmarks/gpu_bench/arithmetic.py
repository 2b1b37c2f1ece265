"""Roofs, shares and FLOPs: plain arithmetic, so that it can be checked without a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpu_bench.shapes import Shape, Tuning

PAPER = {"seconds_per_update": 18.9, "seconds_per_sample": 4.7, "memory_gb": 107.4}
"""CoLLM-CC on the coding team, one H200 (appendix: 11.1 h, 2,110 updates, 8,438 samples)."""
TARGETS = {
    "decode_share_4b": 0.5,
    "seconds_per_update": 4.5,
    "seconds_per_sample": 0.47,
    "memory_gb_full": 100.0,
    "memory_gb_lora": 28.0,
}
LEAST_BYTES = {"full": 8, "lora": 2}
"""Per parameter, with any optimizer worth trying: what is sure not to fit is not tried, all else is."""


def roof_tokens_per_second(shape: Shape, batch: int, bytes_per_second: float) -> float:
    """The most tokens a batch can get where each step reads all weights once in bf16 and nothing else takes time."""
    return batch * bytes_per_second / shape.step_bytes


def roof_with_cache(shape: Shape, batch: int, bytes_per_second: float, cached_tokens: float) -> float:
    """The same where a step also reads each row's keys and values of so many tokens on average."""
    return batch * bytes_per_second / (shape.step_bytes + batch * cached_tokens * shape.kv_bytes_per_token)


def update_flops(shape: Shape, lengths: list[int], predicted: int, tuning: Tuning) -> float:
    """FLOPs of a forward and a backward pass over sequences of these lengths with logits at `predicted` places.

    2 per weight and token forward, 4 backward, of which frozen weights need no 2 for their own gradient. Attention is causal:
    half of all pairs. What is computed twice (checkpointing, blocks of the output layer) counts once. Adapters are left out.
    """
    per_weight = 6 if tuning == "full" else 4
    pairs = sum(n * n / 2 for n in lengths)
    # Scores and weighted sums: 2 products of 2 FLOPs forward, twice that backward.
    attention = 3 * 2 * 2 * shape.layers * shape.heads * shape.head_dim * pairs
    return per_weight * (shape.matrices * sum(lengths) + shape.head * predicted) + attention


def share(rate: float, of: float) -> float | None:
    """None where the roof was not measured."""
    return round(rate / of, 4) if of > 0 else None


def verdicts(sections: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Each target with what was measured for it; `value` and `met` are None where nothing was.

    Decoding counts by the better way (with or without recorded steps) at the worst batch.
    """
    decode = [row for name in ("decode", "graphs") for row in sections.get(name, {}).get("rows", [])]
    best: dict[int, float] = {}
    for row in decode:
        if (row["model"], row["tuning"], row["rule"]) == ("Qwen3-4B", "full", "plain") and row["share_of_roof"] is not None:
            best[row["batch"]] = max(row["share_of_roof"], best.get(row["batch"], 0.0))
    values: dict[str, float | None] = {"decode_share_4b": min(best.values(), default=None)}
    for tuning in ("full", "lora"):
        rows = sections.get(f"team_{tuning}", {}).get("rows", [])
        paper = [r for r in rows if r["schedule"] == "paper"]
        wide = [r for r in rows if r["episodes_in_flight"] >= 16]
        values[f"seconds_per_update_{tuning}"] = min((r["seconds_per_update"] for r in paper), default=None)
        values[f"seconds_per_sample_{tuning}"] = min((r["seconds_per_sample"] for r in wide), default=None)
        values[f"memory_gb_{tuning}"] = max((r["peak_gb"] for r in rows), default=None)
    found: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        target = TARGETS[name] if name in TARGETS else TARGETS[name.rpartition("_")[0]]
        met = None if value is None else (value >= target if name.startswith("decode") else value <= target)
        found[name] = {"target": target, "value": value, "met": met}
    found["decode_share_4b"]["batches"] = sorted(best)
    return found
