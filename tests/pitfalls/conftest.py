"""Small models gain nothing from more threads, and a busy machine loses much."""

from __future__ import annotations

import os

import pytest
from transformers.utils import logging


@pytest.fixture(autouse=True)
def one_core(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    logging.disable_progress_bar()
