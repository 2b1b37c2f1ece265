"""Runs a Python script as an ordinary user: `python as_user.py SCRIPT ARGS...`; exit code 77 where that cannot be done.

Where Python or this repository lies in a place that only root can enter, such as /root, this process first makes itself
a view of the file system in which everybody can.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

from collm.sandbox.jail.libc import call

USER = 65534
_NEWNS, _BIND, _REC, _PRIVATE = 0x20000, 4096, 16384, 1 << 18


def closed_ancestor(path: Path) -> Path | None:
    """The first directory on the way to a path that others cannot enter."""
    for folder in reversed([path, *path.parents]):
        if not folder.stat().st_mode & stat.S_IXOTH:
            return folder
    return None


def open_up(paths: list[Path]) -> None:
    """Makes paths reachable for everybody in a mount namespace of this process's own."""
    closed = {path: ancestor for path in paths if (ancestor := closed_ancestor(path)) is not None}
    if not closed:
        return
    call("unshare", _NEWNS)
    call("mount", b"none", b"/", None, _REC | _PRIVATE, None)
    fds = {path: os.open(path, os.O_PATH) for path in closed}
    for ancestor in set(closed.values()):
        call("mount", b"tmpfs", os.fsencode(ancestor), b"tmpfs", 0, b"mode=755")
    for path, fd in fds.items():
        path.mkdir(parents=True, exist_ok=True)
        call("mount", f"/proc/self/fd/{fd}".encode(), os.fsencode(path), None, _BIND | _REC, None)
        os.close(fd)


def main() -> None:
    if os.geteuid() == 0:
        try:
            open_up([Path(sys.base_prefix), Path(__file__).parents[2]])
            os.setgroups([])
            os.setgid(USER)
            os.setuid(USER)
        except OSError as error:
            print(error, file=sys.stderr)
            sys.exit(77)
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])


if __name__ == "__main__":
    main()
