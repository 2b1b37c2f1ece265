"""Landlock: the files a process may reach, as named by paths (Linux 5.13 and newer)."""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterable

from .libc import PR_SET_NO_NEW_PRIVS, call, prctl

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION = 1
_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_FIRST_ACCESSES = (1 << 13) - 1
_READ = _READ_FILE | _READ_DIR
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_TCP_BIND_AND_CONNECT = 3
_ABSTRACT_SOCKETS_AND_SIGNALS = 3


def version() -> int:
    """The version of Landlock that the kernel speaks. Raises OSError where it speaks none."""
    return call("syscall", _CREATE_RULESET, None, 0, _ASK_VERSION)


def restrict(abi: int, readable: Iterable[str], writable: Iterable[str]) -> None:
    """From now on only what lies beneath these paths can be opened by this process. Raises OSError.

    What Landlock does not cover (stat, chmod, chown, time stamps) is left to the system call filter and the mount flags.
    """
    handled = _FIRST_ACCESSES | (_REFER if abi >= 2 else 0) | (_TRUNCATE if abi >= 3 else 0) | (_IOCTL_DEV if abi >= 5 else 0)
    attributes = handled.to_bytes(8, "little")
    if abi >= 4:
        attributes += _TCP_BIND_AND_CONNECT.to_bytes(8, "little")
    if abi >= 6:
        attributes += _ABSTRACT_SOCKETS_AND_SIGNALS.to_bytes(8, "little")
    ruleset = call("syscall", _CREATE_RULESET, ctypes.create_string_buffer(attributes, len(attributes)), len(attributes), 0)
    try:
        for path in readable:
            _add(ruleset, path, _READ)
        for path in writable:
            _add(ruleset, path, handled & ~_EXECUTE)
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        call("syscall", _RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _add(ruleset: int, path: str, access: int) -> None:
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        allowed = access if stat.S_ISDIR(os.fstat(fd).st_mode) else access & _OF_FILES
        rule = allowed.to_bytes(8, "little") + fd.to_bytes(4, "little")
        call("syscall", _ADD_RULE, ruleset, _PATH_BENEATH, ctypes.create_string_buffer(rule, len(rule)), 0)
    finally:
        os.close(fd)
