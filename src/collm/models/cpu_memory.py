"""What a process keeps of the memory its tensors gave back, on a CPU with glibc.

glibc takes large blocks from the kernel one by one and gives them back when they are freed, until the first has been:
then it raises the size that counts as large, up to 32 MB, and serves activations from heaps. torch asks for aligned
blocks, which do not fit where one of the same size was freed, so the heaps grow to twice what is in use. A fixed size
keeps tensors out of the heaps from the start (docs/plan.md has what that saves); huge pages make up for the time that
fresh blocks cost.
"""

from __future__ import annotations

import ctypes
import os

LARGE = 2 << 20
"""Bytes from which a block is the kernel's: a huge page. With 1 MiB a team of tiny models would be an eighth slower."""

_M_MMAP_THRESHOLD = -3  # malloc.h
_HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"  # torch: tensors of a huge page or more are aligned to it


def give_back_freed_memory() -> bool:
    """Fixes glibc's mmap threshold for this process and lets torch use huge pages; what the environment says goes first.

    torch looks at its variable when it makes its first tensor, glibc heeds its threshold from now on. Returns whether the
    threshold was set: not with another C library, nor where MALLOC_MMAP_THRESHOLD_ or GLIBC_TUNABLES already settles it.
    """
    environment = os.environ  # noqa: TID251 - torch and glibc take their settings from nowhere else
    environment.setdefault(_HUGE_PAGES, "1")
    by_hand = "MALLOC_MMAP_THRESHOLD_" in environment or "glibc.malloc.mmap" in environment.get("GLIBC_TUNABLES", "")
    if by_hand or not _is_glibc():
        return False
    return ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE) == 1


def _is_glibc() -> bool:
    return "CS_GNU_LIBC_VERSION" in os.confstr_names and (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
