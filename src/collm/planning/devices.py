"""What devices have, and what a process takes of them before anything is loaded."""

from __future__ import annotations

import os
from pathlib import Path

import torch

PROCESS_BYTES = {
    # Python with torch and transformers imported: 0.39 GB measured here; threads, their buffers and what a run keeps about itself.
    "cpu": 500_000_000,
    # The CUDA context and cuBLAS workspaces of a current GPU.
    "cuda": 800_000_000,
}
"""By device type."""

HELD_BACK = {
    # Blocks of less than 2 MB, which stay in heaps (models/cpu_memory.py); chosen by benchmarks/plan_accuracy.py, so with glibc.
    "cpu": 0.1,
    # Rounding and fragmentation of torch's caching allocator; an assumption, not measured.
    "cuda": 0.1,
}
"""Memory that was freed and is still the process's, as a share of what passes allocate at their peak; by device type."""

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def device_bytes(device: str) -> int | None:
    """The memory of a device of this machine, in bytes; None for a GPU that is not here."""
    named = torch.device(device)
    if named.type == "cpu":
        return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *_container_limits()])
    if named.type == "cuda" and (named.index or 0) < torch.cuda.device_count():
        return torch.cuda.get_device_properties(named).total_memory
    return None


def _container_limits() -> list[int]:
    """What a container is held to, where it is."""
    found = [Path(file).read_text(encoding="ascii").strip() for file in _CGROUP_LIMITS if Path(file).is_file()]
    return [int(text) for text in found if text.isdigit()]
