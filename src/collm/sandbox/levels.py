"""Which mechanisms a level takes, and what to do where the machine refuses one."""

from __future__ import annotations

import sys
from collections.abc import Collection

from collm.errors import SandboxError
from collm.sandbox.records import Level
from collm.sandbox.worker import UnavailableError, Worker

MECHANISMS = ("namespaces", "landlock", "seccomp")
"""In the order in which they are given up where that is allowed."""

_MEANING = {
    Level.FILTERED: "no private root: programs cannot write files, and can find out which paths exist",
    Level.RLIMITS: "resource limits only: programs reach the network, and every file and process that the user reaches",
}


def start_worker(level: Level, without: Collection[str]) -> tuple[Worker, tuple[str, ...]]:
    """A worker with every mechanism that this machine gives, and their names.

    `without`: mechanisms to do without even where they could be had. Raises SandboxError where the level needs one that
    cannot be had.
    """
    unknown = set(without) - set(MECHANISMS)
    if unknown:
        raise SandboxError(f"the sandbox knows no mechanism {min(unknown)!r}: its mechanisms are {', '.join(MECHANISMS)}")
    missing = dict.fromkeys(without, "not wanted") if sys.platform == "linux" else dict.fromkeys(MECHANISMS, "Linux only")
    while True:
        _check(level, missing)
        wanted = tuple(name for name in MECHANISMS if name not in missing)
        try:
            return Worker(wanted), wanted
        except UnavailableError as error:
            # Some mechanisms only show in the rehearsal that they do not work; then the first that the level can spare is to blame.
            blamed = error.mechanism if error.mechanism in wanted else next(iter(wanted), None)
            if blamed is None or error.mechanism == "unprivileged_user":
                raise SandboxError(f"the sandbox level {level.value!r} cannot be had here: {error.reason}") from error
            missing[blamed] = error.reason


def _check(level: Level, missing: dict[str, str]) -> None:
    lacking = _lacking(level, missing)
    if not lacking:
        return
    why = "; ".join(f"{name} ({missing[name]})" for name in lacking)
    lower = [f"{name.value!r} ({_MEANING[name]})" for name in _MEANING if name != level and not _lacking(name, missing)]
    raise SandboxError(
        f"the sandbox level {level.value!r} cannot be had on this machine, which does not give: {why}. "
        f"Untrusted programs are not run with less unless a lower level is asked for by name: {' or '.join(lower)}"
    )


def _lacking(level: Level, missing: Collection[str]) -> list[str]:
    """The mechanisms that a level needs and that are missing."""
    if level == Level.RLIMITS:
        return []
    needed = ["namespaces", "seccomp"] if level == Level.FULL else ["seccomp"]
    if level == Level.FILTERED and "namespaces" in missing:
        needed.append("landlock")
    return [name for name in needed if name in missing]
