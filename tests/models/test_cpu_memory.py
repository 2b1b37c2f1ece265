"""Memory that tensors gave back is the kernel's again; what a user settled stays."""

import json
import os
import platform
import subprocess
import sys

import pytest

from collm.models.cpu_memory import give_back_freed_memory

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library, another allocator")

# A large block is freed first, after which glibc by itself would take blocks of 3 MB from a heap. Of those every other one
# is freed: a heap would keep their places.
PROGRAM = """
import json, os
from pathlib import Path
import collm.models
import torch

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

torch.ones(8 << 20), torch.ones(4 << 20)
before = resident()
blocks = [torch.ones(3 << 18) for _ in range(100)]
full = resident() - before
kept = blocks[1::2]
del blocks
half = resident() - before
print(json.dumps({"full": full, "half": half, "huge": os.environ.get("THP_MEM_ALLOC_ENABLE")}))
"""


def ran(**environment: str) -> dict[str, float]:
    inherited = {k: v for k, v in os.environ.items() if k not in ("THP_MEM_ALLOC_ENABLE", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env={**inherited, **environment}, check=True)
    return json.loads(done.stdout)


def test_half_of_the_blocks_freed_is_half_of_the_memory():
    settled = ran()
    assert settled["full"] > 290e6
    assert settled["half"] == pytest.approx(settled["full"] / 2, rel=0.1)
    assert settled["huge"] == "1"


def test_settings_of_the_environment_stay():
    own = ran(MALLOC_MMAP_THRESHOLD_=str(32 << 20), THP_MEM_ALLOC_ENABLE="0")
    assert own["huge"] == "0"
    # Freed blocks stay in the heap between the kept ones.
    assert own["half"] > 0.9 * own["full"]


def test_a_user_s_threshold_is_not_touched(monkeypatch):
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "65536")
    assert give_back_freed_memory() is False


def test_a_tunable_of_something_else_settles_nothing(monkeypatch):
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.mmap_threshold=65536")
    assert give_back_freed_memory() is False
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.pthread.rseq=0")
    assert give_back_freed_memory() is True
