"""System calls that Python does not wrap, through the C library."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import cache

LIBC = ctypes.CDLL(None, use_errno=True)

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

_CAPSET = {"x86_64": 126, "aarch64": 91}


class MechanismError(Exception):
    """A means of isolation that this machine does not give: its name, and what the system said."""

    def __init__(self, mechanism: str, reason: str) -> None:
        super().__init__(f"{mechanism}: {reason}")
        self.mechanism = mechanism
        self.reason = reason


@cache
def _function(name: str) -> Callable[..., int]:
    return LIBC[name]


def call(name: str, *args: int | bytes | ctypes.Array[ctypes.c_char] | ctypes.Structure | None) -> int:
    """Calls a function of the C library that returns -1 on failure; then raises OSError with its errno and name."""
    result = _function(name)(*map(_converted, args))
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def _converted(arg: int | bytes | ctypes.Array[ctypes.c_char] | ctypes.Structure | None) -> object:
    if isinstance(arg, int):
        return ctypes.c_long(arg)
    return ctypes.byref(arg) if isinstance(arg, ctypes.Structure) else arg


def prctl(option: int, value: int, extra: int | ctypes.Structure = 0) -> None:
    """prctl(2) with its unused arguments zero, as the kernel demands for some options."""
    call("prctl", option, value, extra, 0, 0)


def drop_capabilities(machine: str) -> None:
    """Empties the effective, permitted and inheritable capability sets of this process (Linux)."""
    header = ctypes.create_string_buffer(_VERSION_3.to_bytes(4, "little") + bytes(4), 8)
    call("syscall", _CAPSET[machine], header, ctypes.create_string_buffer(24))


_VERSION_3 = 0x20080522
