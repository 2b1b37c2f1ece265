"""The system call filter: a BPF program that allows what syscalls.py lists and refuses everything else.

No process or thread can be made, no program started, no socket opened, no other process signalled, traced or looked at,
no identity, namespace, mount, ownership, mode or time stamp changed. What is refused fails with EPERM and the program goes
on; only a system call of another architecture's table kills it, because its numbers would mean something else.
"""

from __future__ import annotations

import ctypes
import os
import struct
from functools import cache

from .libc import PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, prctl
from .syscalls import allowed, checked

_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _ENOSYS = 1, 38
_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_NUMBER_OFFSET, _ARCHITECTURE_OFFSET, _ARGUMENTS_OFFSET = 0, 4, 16
_SECCOMP_MODE_FILTER = 2
_ANY_PID = 0x3FFFFFFF  # larger than any process id, and no other number of the filter

# System calls from Linux 5.1 on have the same number everywhere. The C library falls back to an older one on ENOSYS, not on EPERM.
_FIRST_OF_THE_NEW = 424
_X32_BIT = 0x40000000

_FCNTL_COMMANDS = (0, 1, 2, 3, 4, 1030)  # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC: no locks, owners, leases
_IOCTL_REQUESTS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)  # TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def install(machine: str) -> None:
    """Filters this process from now on, for good. It may signal itself only. Raises OSError."""
    code = _template(machine).replace(_pack(_ANY_PID), _pack(os.getpid()))
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, _Program(len(code) // 8, code))


@cache
def _template(machine: str) -> bytes:
    """The filter as the kernel takes it, eight bytes per instruction, with a stand-in for the id of its process.

    Kept short: the kernel checks, compiles and tries out each filter at each installation.
    """
    calls = checked(machine)
    code = [
        _statement(_LOAD, _ARCHITECTURE_OFFSET),
        _jump(_EQUAL, _ARCHITECTURE[machine], 1, 0),
        _statement(_RETURN, _KILL),
        _statement(_LOAD, _NUMBER_OFFSET),
        _jump(_AT_LEAST, _X32_BIT, 0, 1),
        _statement(_RETURN, _KILL),
    ]
    for name in ("kill", "tkill", "tgkill"):
        code += _if_argument(calls[name], 0, (_ANY_PID,))
    code += _if_argument(calls["prlimit64"], 0, (0, _ANY_PID))
    code += _if_argument(calls["ioctl"], 1, _IOCTL_REQUESTS)
    code += _if_argument(calls["fcntl"], 1, _FCNTL_COMMANDS)
    return b"".join(code + _among(_ranges(sorted(allowed(machine)))))


def _among(ranges: list[tuple[int, int]]) -> list[bytes]:
    """Allows numbers in any of these ranges, which come in rising order, and refuses all others."""
    refused = [
        _jump(_AT_LEAST, _FIRST_OF_THE_NEW, 0, 1),
        _statement(_RETURN, _ERRNO | _ENOSYS),
        _statement(_RETURN, _ERRNO | _EPERM),
    ]
    count = 2 * len(ranges)
    code: list[bytes] = []
    for position, (first, last) in enumerate(ranges):
        to_the_end = count - 2 * position - 1  # instructions between this one and the end of the ranges
        code.append(_jump(_AT_LEAST, first, 0, to_the_end))  # in the gap before this range: refused
        code.append(_jump(_AT_LEAST, last + 1, 0, to_the_end - 1 + len(refused)))  # not beyond it: allowed
    return code + refused + [_statement(_RETURN, _ALLOW)]


def _ranges(numbers: list[int]) -> list[tuple[int, int]]:
    """Rising numbers as ranges, both ends included."""
    ranges: list[tuple[int, int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return ranges


def _if_argument(number: int, position: int, values: tuple[int, ...]) -> list[bytes]:
    """Allows one system call where the low 32 bits of an argument, all that the kernel reads of these, are one of `values`."""
    body = [_statement(_LOAD, _ARGUMENTS_OFFSET + 8 * position)]
    for value in values:
        body += [_jump(_EQUAL, value, 0, 1), _statement(_RETURN, _ALLOW)]
    body.append(_statement(_RETURN, _ERRNO | _EPERM))
    return [_jump(_EQUAL, number, 0, len(body)), *body]


def _pack(number: int) -> bytes:
    return struct.pack("<I", number)


def _statement(code: int, value: int) -> bytes:
    return struct.pack("<HBBI", code, 0, 0, value)


def _jump(code: int, value: int, when_true: int, when_false: int) -> bytes:
    return struct.pack("<HBBI", code, when_true, when_false, value)
