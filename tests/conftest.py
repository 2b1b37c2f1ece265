"""Shared by all tests: one torch thread for the same numbers everywhere, and where ../shared lies."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(Path(__file__).parent))
torch.set_num_threads(1)
# What tests start computes with one thread too: more of them than cores, waiting for each other, take up to three times as long.
os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests first, so that no process is left alone with one at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish() -> None:
    """What importing and collecting left on the heap stays: collecting garbage need not look through it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def shared() -> Path:
    """The project's shared folder; tests that read it are skipped where it is absent."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here: recorded rewards and real data live there")
    return folder
