"""Working directories where the program's root is not private: made and emptied by the keeper."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile

from .confine import NOBODY


class Scratch:
    """A directory of the keeper's, removed at its end, with a fresh one inside for each program that may write."""

    def __init__(self, writable: bool, nobody: bool) -> None:
        self.path = tempfile.mkdtemp(prefix="collm-sandbox-")
        os.chmod(self.path, 0o755)
        self._writable = writable
        self._nobody = nobody
        self._count = 0

    def fresh(self) -> str:
        """An empty directory for the next program."""
        if not self._writable:
            return self.path
        self._count += 1
        path = os.path.join(self.path, str(self._count))
        os.mkdir(path, 0o700)
        if self._nobody:
            os.chown(path, NOBODY, NOBODY)
        return path

    def empty(self) -> None:
        """Removes what a program that has ended left behind."""
        if self._writable:
            for name in os.listdir(self.path):
                remove_tree(self.path, name)

    def close(self) -> None:
        self.empty()
        shutil.rmtree(self.path)


def remove_tree(parent: str, name: str) -> None:
    """Removes a directory that a hostile program filled: links are not followed, and no depth is too deep.

    Directories are moved up and removed one by one, so that neither this function nor a path grows with the depth.
    """
    fd = os.open(parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        waiting = [name]
        moved = 0
        while waiting:
            current = waiting.pop()
            inside = _open_directory(current, fd)
            try:
                for entry in os.listdir(inside):
                    if stat.S_ISDIR(os.lstat(entry, dir_fd=inside).st_mode):
                        moved += 1
                        waiting.append(f"{name}.{moved}")
                        with contextlib.suppress(PermissionError):  # root moves it anyway; its own owner may lack the mode bits
                            os.chmod(entry, 0o700, dir_fd=inside)
                        os.rename(entry, waiting[-1], src_dir_fd=inside, dst_dir_fd=fd)
                    else:
                        os.unlink(entry, dir_fd=inside)
            finally:
                os.close(inside)
            os.rmdir(current, dir_fd=fd)
    finally:
        os.close(fd)


def _open_directory(name: str, parent_fd: int) -> int:
    os.chmod(name, 0o700, dir_fd=parent_fd)
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent_fd)
