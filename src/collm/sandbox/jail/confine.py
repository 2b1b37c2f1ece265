"""The last thing a process does before it meets the untrusted side: it gives up, for good, what it does not need."""

from __future__ import annotations

import os
import resource
import sys
from dataclasses import dataclass

from . import landlock, seccomp
from .libc import PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, PR_SET_PDEATHSIG, MechanismError, drop_capabilities, prctl
from .syscalls import MACHINES

NOBODY = 65534
"""User and group of the processes where collm runs as root."""

OPEN_FILES = 64
_SIGKILL = 9


@dataclass(frozen=True, slots=True)
class Means:
    """What this machine gives, found out once by the keeper."""

    machine: str
    namespaces: bool
    seccomp: bool
    landlock: int  # its version, 0 for none
    nobody: bool  # the processes become user 65534
    library: tuple[str, ...]  # the directories of Python's standard library


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one process may use."""

    memory_bytes: int  # of address space, the interpreter's own included
    cpu_seconds: int
    file_bytes: int  # of one file, and of all files together where the working directory is private


def on_linux() -> bool:
    return sys.platform == "linux"


def known_machine(mechanism: str) -> str:
    """This machine's architecture. Raises MechanismError for a mechanism that needs it where its system calls are not known here."""
    machine = os.uname().machine
    if machine not in MACHINES or sys.maxsize < 2**32:
        raise MechanismError(mechanism, f"the system calls of {machine} are not known to collm (only those of {', '.join(MACHINES)})")
    return machine


def confine(means: Means, bounds: Bounds, parent: int | None, writable: tuple[str, ...], readable: tuple[str, ...] = ()) -> None:
    """Confines this process. `parent`: its parent's id where it can see it.

    Raises MechanismError where any part fails; nothing untrusted may be touched then.
    """
    try:
        _limit_resources(bounds)
        if means.nobody:
            become_nobody()
        if on_linux():
            _give_up_on_linux(means, parent, writable, readable)
    except (OSError, ValueError) as error:
        raise MechanismError("confinement", str(error)) from error


def become_nobody() -> None:
    """Changes this process's user and groups for good. Raises OSError."""
    os.setgroups([])
    if on_linux():
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    else:
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def hide_from_others() -> None:
    """No process of the same user may trace this one or read its memory (Linux)."""
    if on_linux():
        prctl(PR_SET_DUMPABLE, 0)


def die_with_parent(parent: int | None) -> None:
    """The kernel kills this process when its parent ends (Linux). Has to follow a change of user, which resets it."""
    prctl(PR_SET_PDEATHSIG, _SIGKILL)
    if parent is not None and os.getppid() != parent:
        os._exit(1)  # the parent ended before


def _give_up_on_linux(means: Means, parent: int | None, writable: tuple[str, ...], readable: tuple[str, ...]) -> None:
    if means.machine:
        drop_capabilities(means.machine)
    hide_from_others()
    die_with_parent(parent)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    if means.landlock:
        landlock.restrict(means.landlock, (*means.library, *readable), ("/dev/null", *writable))
    if means.seccomp:
        seccomp.install(means.machine)


def _limit_resources(bounds: Bounds) -> None:
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_CPU: bounds.cpu_seconds,
        resource.RLIMIT_FSIZE: bounds.file_bytes,
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_MEMLOCK: 0,
    }
    if on_linux():
        limits[resource.RLIMIT_AS] = bounds.memory_bytes
        limits[resource.RLIMIT_MSGQUEUE] = 0
    for what, most in limits.items():
        hard = resource.getrlimit(what)[1]
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (bound, bound))
