"""Linux namespaces: a private root with Python's own library and nothing else, no network, no view of other processes."""

from __future__ import annotations

import os
from collections.abc import Sequence

from .libc import MechanismError, call

PRIVATE_DIRECTORY = "/sandbox"
"""Where the working directory of a program is, inside the private root."""

_NEWNS, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
_ALL = _NEWNS | _NEWUTS | _NEWIPC | _NEWNET
_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT, _NOATIME, _NODIRATIME = 1, 2, 4, 8, 32, 1024, 2048
_BIND, _REC, _PRIVATE, _RELATIME = 4096, 16384, 1 << 18, 1 << 21
_ST_RELATIME = 4096
_DETACH = 2
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_NOT_THE_LIBRARY = ("site-packages", "dist-packages")


def enter(machine: str, library: Sequence[str]) -> None:
    """Moves this process into namespaces of its own and into a private root.

    `library`: the directories of Python's standard library, which appear read-only at their own paths. Raises
    MechanismError, with this process half-way: it has to end then.
    """
    try:
        _unshare()
        call("sethostname", b"sandbox", 7)
        _private_root(machine, library)
    except OSError as error:
        raise MechanismError("namespaces", error.strerror or str(error)) from error


def _unshare() -> None:
    if os.geteuid() == 0:
        try:
            call("unshare", _ALL)
            return
        except OSError:
            pass  # root without the capability, as in most containers: it may still make a user namespace, as anyone may
    uid, gid = os.geteuid(), os.getegid()
    call("unshare", _NEWUSER | _ALL)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def _private_root(machine: str, library: Sequence[str]) -> None:
    """Builds the new root on a tmpfs that covers an existing directory: nothing is ever written to the machine's own files."""
    root = "/tmp" if os.path.isdir("/tmp") else "/dev"
    _mount("none", "/", None, _REC | _PRIVATE)
    # What lies beneath the tmpfs is out of reach once it is there, so what is to be kept is opened before.
    sources = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in (*library, "/dev/null")}
    _mount("tmpfs", root, "tmpfs", _NOSUID, "size=256k,nr_inodes=256,mode=755")
    for path in library:
        _bind_directory(f"/proc/self/fd/{sources[path]}", root + path)
    _bind_device(f"/proc/self/fd/{sources['/dev/null']}", f"{root}/dev/null")
    os.makedirs(root + PRIVATE_DIRECTORY, exist_ok=True)
    for fd in sources.values():
        os.close(fd)
    os.chdir(root)
    call("syscall", _PIVOT_ROOT[machine], b".", b".")
    call("umount2", b".", _DETACH)
    os.chdir("/")
    _mount("none", "/", None, _REMOUNT | _BIND | _RDONLY | _NOSUID | _NODEV)


def _bind_directory(source: str, target: str) -> None:
    os.makedirs(target, exist_ok=True)
    _mount(source, target, None, _BIND | _REC)
    for name in _NOT_THE_LIBRARY:
        if os.path.isdir(f"{target}/{name}"):
            _mount("tmpfs", f"{target}/{name}", "tmpfs", _RDONLY | _NOSUID | _NODEV | _NOEXEC, "size=4k,nr_inodes=2,mode=755")
    _mount("none", target, None, _REMOUNT | _BIND | _RDONLY | _NOSUID | _NODEV | _flags_to_keep(target))


def _bind_device(source: str, target: str) -> None:
    os.makedirs(os.path.dirname(target), exist_ok=True)
    os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o666))
    _mount(source, target, None, _BIND)


def _flags_to_keep(path: str) -> int:
    """The flags of a mount that a user namespace may not take away when it mounts again."""
    flags = os.statvfs(path).f_flag
    return flags & (_NOSUID | _NODEV | _NOEXEC | _NOATIME | _NODIRATIME) | (_RELATIME if flags & _ST_RELATIME else 0)


def _mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    call("mount", source.encode(), os.fsencode(target), kind.encode() if kind else None, flags, options.encode() or None)


def isolate_children() -> None:
    """Gives this process's children a process namespace, which lives as long as the first of them. Raises MechanismError."""
    try:
        call("unshare", _NEWPID)
    except OSError as error:
        raise MechanismError("namespaces", error.strerror or str(error)) from error


def fork_isolated() -> int:
    """os.fork into a process namespace of the child's own, where it is process 1 and sees nobody else. Raises OSError."""
    own = os.pidfd_open(os.getpid())
    try:
        call("unshare", _NEWPID)
        pid = os.fork()
        if pid:
            call("setns", own, _NEWPID)
    finally:
        os.close(own)
    return pid


def mount_private_directory(size_bytes: int, uid: int, gid: int) -> None:
    """Gives this process a fresh, empty, bounded directory that vanishes with it, and goes there. Raises OSError."""
    call("unshare", _NEWNS)
    options = f"size={size_bytes},nr_inodes=256,mode=700,uid={uid},gid={gid}"
    _mount("tmpfs", PRIVATE_DIRECTORY, "tmpfs", _NOSUID | _NODEV | _NOEXEC, options)
    os.chdir(PRIVATE_DIRECTORY)
