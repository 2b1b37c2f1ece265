"""Threads for hosts that work at the same time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")


def host_workers(n_hosts: int) -> ThreadPoolExecutor:
    """One worker per host."""
    return ThreadPoolExecutor(n_hosts)


def side_by_side(executor: Executor, works: Sequence[Callable[[], T]]) -> list[Future[T]]:
    """Start works on different hosts. None waits for another: each computes with its share of the caller's threads."""
    threads = max(1, torch.get_num_threads() // max(1, len(works)))

    def work(own: Callable[[], T]) -> T:
        before = torch.get_num_threads()
        # Of this thread alone.
        torch.set_num_threads(threads)
        try:
            return own()
        finally:
            torch.set_num_threads(before)

    return [executor.submit(work, own) for own in works]
