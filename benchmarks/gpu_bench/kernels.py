"""What the device itself can do: bytes moved and products computed per second."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gpu_bench.machine import median_seconds, release
from gpu_bench.results import Clock, Results
from gpu_bench.shapes import Sizes


@dataclass(slots=True)
class Roof:
    """Measured rates that shares are taken of."""

    bytes_per_second: float = 0.0
    flops_per_second: float = 0.0


def measure(results: Results, clock: Clock, device: torch.device, sizes: Sizes, roof: Roof) -> None:
    """Both rates, into `roof` for the sections that follow and into the results."""
    clock.needs(2, "the roof")
    roof.bytes_per_second = _copied_per_second(sizes.copy_bytes, device)
    release(device)
    roof.flops_per_second = _products_per_second(sizes.matmul, device)
    release(device)
    results.add(
        "roof",
        copy_terabytes_per_second=round(roof.bytes_per_second / 1e12, 4),
        matmul_bf16_tflops=round(roof.flops_per_second / 1e12, 3),
        copy_bytes=sizes.copy_bytes,
        matmul_size=sizes.matmul,
    )


def _copied_per_second(size: int, device: torch.device) -> float:
    """Bytes read and written by a copy on the device."""
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    return 2 * size / median_seconds(lambda: target.copy_(source), device, 10)


def _products_per_second(n: int, device: torch.device) -> float:
    """FLOP/s of a square bf16 product."""
    left, right = (torch.randn(n, n, device=device).to(torch.bfloat16) for _ in range(2))
    torch.mm(left, right)
    return 2 * n**3 / median_seconds(lambda: torch.mm(left, right), device, 10)
