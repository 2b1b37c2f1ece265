"""Threads for hosts that work at the same time."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import torch


def host_workers(n_hosts: int) -> ThreadPoolExecutor:
    """One worker per host. Busy hosts share the cores and none waits: each worker computes with its share of them."""
    cores = len(os.sched_getaffinity(0))
    threads = max(1, cores // min(n_hosts, cores))
    return ThreadPoolExecutor(n_hosts, initializer=torch.set_num_threads, initargs=(threads,))
