"""Start of the keeper: takes what this machine gives, rehearses once, tells the parent, then works until the parent is gone."""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
from collections.abc import Callable, Sequence

from . import landlock, seccomp
from .confine import Means, become_nobody, hide_from_others, known_machine, on_linux
from .frames import send_json
from .keeper import Keeper
from .libc import MechanismError
from .namespaces import enter, isolate_children
from .scratch import Scratch
from .trial import ParentGoneError, Site
from .warm import warm_up
from .zygote import zygote_main

_REHEARSAL = {
    "program": "def f(x):\n    return x + 1\n",
    "preamble": "",
    "tests": ["assert f(1) == 2"],
    "bind": {},
    "limits": {"seconds": 60.0, "memory_mb": 512, "output_kb": 1, "file_kb": 64, "max_timeouts": None},
}


def main(control_fd: int, parent: int, wanted: Sequence[str], library: Sequence[str]) -> None:
    """Runs a keeper on a socket. `wanted`: the mechanisms to use; `library`: the directories of the standard library.

    The first message says `ready` with what is enforced, or `failed` with the mechanism that this machine does not give.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = socket.socket(fileno=control_fd)
    zygote = 0
    scratch: Scratch | None = None
    try:
        parent_fds = _parent_fds(control, parent)
        warm_up()
        means = _take(wanted, tuple(library))
        scratch = None if means.namespaces else Scratch(writable=not means.landlock, nobody=means.nobody)
        zygote, channel = _start_zygote(means, parent_fds)
        keeper = Keeper(Site(means, channel, parent_fds), scratch)
        _rehearse(keeper)
        gc.collect()
        gc.freeze()  # forks share what they have not touched, and the collector would touch everything
        send_json(control, {"event": "ready", "enforced": enforced(means), "scratch": scratch.path if scratch else None})
        keeper.serve(control)
    except MechanismError as error:
        send_json(control, {"event": "failed", "mechanism": error.mechanism, "reason": error.reason})
    except (EOFError, ParentGoneError, BrokenPipeError, ConnectionResetError):
        return
    finally:
        if zygote:
            os.kill(zygote, signal.SIGKILL)
            os.waitpid(zygote, 0)
        if scratch is not None:
            scratch.close()


def enforced(means: Means) -> dict[str, bool]:
    """What holds here: first the promises, then the mechanisms they rest on."""
    private_files = means.namespaces or bool(means.landlock)
    another_user = means.nobody or os.geteuid() != 0
    out_of_reach = private_files or means.nobody
    return {
        "tests_out_of_reach": out_of_reach,
        "verdict_cannot_be_forged": out_of_reach,
        "wall_clock_limit": True,
        "cpu_limit": True,
        "memory_limit": on_linux(),
        "file_size_limit": True,
        "no_new_processes": means.seccomp or another_user,
        "no_network": means.namespaces or means.seccomp,
        "no_other_processes": means.seccomp,
        "no_other_files": private_files and means.seccomp,
        "leaves_no_files": private_files,
        "killed_with_parent": means.namespaces or means.seccomp,
        "namespaces": means.namespaces,
        "seccomp": means.seccomp,
        "landlock": bool(means.landlock),
        "rlimits": True,
        "unprivileged_user": another_user,
    }


def _take(wanted: Sequence[str], library: tuple[str, ...]) -> Means:
    """Takes the wanted mechanisms, as far as that is done once and for all. Raises MechanismError."""
    machine = known_machine(wanted[0]) if wanted else ""
    if "namespaces" in wanted:
        enter(machine, library)
    abi = 0
    if "landlock" in wanted:
        abi = _landlock_version()
    if "seccomp" in wanted:
        _try_in_a_fork("seccomp", lambda: seccomp.install(machine))
    means = Means(machine, "namespaces" in wanted, "seccomp" in wanted, abi, _can_become_nobody(library), library)
    if os.geteuid() == 0 and not (means.nobody or means.namespaces or means.landlock):
        raise MechanismError(
            "unprivileged_user",
            f"programs would run as root, because user 65534 cannot be taken on or cannot read {library[0]}: "
            "run collm as an ordinary user, or with a Python that every user can read",
        )
    hide_from_others()
    return means


def _landlock_version() -> int:
    try:
        return landlock.version()
    except OSError as error:
        raise MechanismError("landlock", error.strerror or str(error)) from error


def _can_become_nobody(library: Sequence[str]) -> bool:
    """Whether processes can change to an unprivileged user who can still read the library."""
    if os.geteuid() != 0:
        return False

    def change() -> None:
        become_nobody()
        for path in library:
            os.listdir(path)

    try:
        _try_in_a_fork("unprivileged_user", change)
    except MechanismError:
        return False
    return True


def _try_in_a_fork(mechanism: str, action: Callable[[], None]) -> None:
    """Tries something that cannot be undone. Raises MechanismError where it fails."""
    pid = os.fork()
    if pid == 0:
        code = 255
        try:
            action()
            code = 0
        except OSError as error:
            code = min(error.errno or 255, 255)
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        raise MechanismError(mechanism, os.strerror(code) if 0 < code < 255 else f"the attempt ended with {code}")


def _parent_fds(control: socket.socket, parent: int) -> tuple[int, ...]:
    """What becomes readable when the parent ends. A socket alone does not tell while a fork of the parent lives on."""
    if not on_linux():
        return (control.fileno(),)
    pidfd = os.pidfd_open(parent)
    if os.getppid() != parent:
        raise ParentGoneError
    return (control.fileno(), pidfd)


def _start_zygote(means: Means, parent_fds: Sequence[int]) -> tuple[int, socket.socket]:
    if means.namespaces:
        isolate_children()
    ours, theirs = socket.socketpair()
    keeper = None if means.namespaces else os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            for fd in parent_fds:
                os.close(fd)
            zygote_main(theirs, means, keeper)
        finally:
            os._exit(1)
    theirs.close()
    return pid, ours


def _rehearse(keeper: Keeper) -> None:
    verdict = keeper.run(_REHEARSAL)
    if [status for status, _, _ in verdict["results"]] != ["passed"]:
        raise MechanismError("confinement", f"a trivial program does not run in it: {json.dumps(verdict)}")
