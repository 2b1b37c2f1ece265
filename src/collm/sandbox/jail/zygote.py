"""The process that forks program processes, one at a time. It never sees a program or a test, so none can be found in a fork.

Its only messages are the keeper's `start` (bounds, a directory, and the program's ends of three pipes) and `kill`; its answers
are `started` or `unconfined`, and later `ended`.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
from typing import Any, NoReturn

from . import program
from .confine import NOBODY, Bounds, Means, confine, die_with_parent, on_linux
from .frames import receive_json, send_json
from .libc import MechanismError
from .namespaces import PRIVATE_DIRECTORY, fork_isolated, mount_private_directory

_CONFINED = b"confined"
_MAX_REASON_BYTES = 4096


def zygote_main(sock: socket.socket, means: Means, keeper: int | None) -> NoReturn:
    """Serves the keeper until it goes away. `keeper`: its process id where it can be seen from here."""
    if on_linux():
        die_with_parent(keeper)
    program.prepare()
    gc.collect()
    gc.freeze()
    wake, wake_end = os.pipe()
    os.set_blocking(wake_end, False)
    signal.set_wakeup_fd(wake_end)
    signal.signal(signal.SIGCHLD, _nothing)
    try:
        _loop(sock, means, wake)
    except EOFError:
        os._exit(0)


def _nothing(_number: int, _frame: object) -> None:
    pass


def _loop(sock: socket.socket, means: Means, wake: int) -> NoReturn:
    running: int | None = None
    while True:
        ready = {fd for fd, _ in _poll(sock.fileno(), wake)}
        if wake in ready:
            os.read(wake, 1024)
        if running is not None and _report_end(sock, running, os.WNOHANG):
            running = None
        if sock.fileno() in ready:
            request, fds = _receive_request(sock)
            if request["do"] == "start":
                running = _start(sock, means, request, fds)
            elif running is not None:
                _kill(running)
                _report_end(sock, running, 0)
                running = None


def _poll(*fds: int) -> list[tuple[int, int]]:
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return poll.poll()


def _receive_request(sock: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """A request comes as one byte with the descriptors, then its JSON. Raises EOFError."""
    first, fds, _, _ = socket.recv_fds(sock, 1, 8)
    if not first:
        raise EOFError
    return receive_json(sock), list(fds)


def send_request(sock: socket.socket, request: dict[str, Any], fds: list[int]) -> None:
    """The keeper's side of `_receive_request`."""
    socket.send_fds(sock, [b"!"], fds)
    send_json(sock, request)


def _start(sock: socket.socket, means: Means, request: dict[str, Any], fds: list[int]) -> int | None:
    """Forks a program process and tells the keeper what came of it; its id, None where it could not be confined."""
    status, status_end = os.pipe()
    zygote = None if means.namespaces else os.getpid()
    try:
        pid = fork_isolated() if means.namespaces else os.fork()
    except OSError as error:
        send_json(sock, {"event": "unconfined", "error": str(error)})
        os._exit(1)
    if pid == 0:
        try:
            os.close(status)
            _become_program(means, request, fds, status_end, zygote)
        finally:
            os._exit(120)
    for fd in (status_end, *fds):
        os.close(fd)
    reason = _read_to_end(status)
    if reason == _CONFINED:
        send_json(sock, {"event": "started"})
        return pid
    _kill(pid)
    os.waitpid(pid, 0)
    send_json(sock, {"event": "unconfined", "error": reason.decode("utf-8", "replace") or "the process ended before it was confined"})
    return None


def _read_to_end(fd: int) -> bytes:
    data = b""
    while piece := os.read(fd, _MAX_REASON_BYTES):
        data += piece
    os.close(fd)
    return data


def _become_program(means: Means, request: dict[str, Any], fds: list[int], status_end: int, zygote: int | None) -> NoReturn:
    """In the fork: everything is given up, that is told, and only then the program is read."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    bounds = Bounds(**request["bounds"])
    try:
        status_end = _arrange_descriptors(fds, status_end)
        os.setsid()
        os.umask(0o077)
        if means.namespaces:
            owner = (NOBODY, NOBODY) if means.nobody else (os.getuid(), os.getgid())
            mount_private_directory(bounds.file_bytes, *owner)
            confine(means, bounds, zygote, writable=(PRIVATE_DIRECTORY,))
        else:
            directory = request["directory"]
            os.chdir(directory)
            confine(means, bounds, zygote, writable=(), readable=(directory,))
    except (OSError, MechanismError) as error:
        os.write(status_end, str(error).encode("utf-8", "replace")[:_MAX_REASON_BYTES])
        os._exit(120)
    os.write(status_end, _CONFINED)
    os.close(status_end)
    program.serve()


def _arrange_descriptors(fds: list[int], status_end: int) -> int:
    """Questions, answers and output on 3, 4, 1 and 2; everything else closed but the returned end of the status pipe."""
    high = [os.dup2(fd, 32 + position) for position, fd in enumerate((*fds, status_end))]
    questions, answers, output, status = high
    for source, target in ((output, 1), (output, 2), (questions, program.QUESTIONS_FD), (answers, program.ANSWERS_FD), (status, 5)):
        os.dup2(source, target)
    os.closerange(6, os.sysconf("SC_OPEN_MAX"))
    return 5


def _kill(pid: int) -> None:
    """Ends a program, and its whole group where it should have one."""
    for target in (-pid, pid):
        try:
            os.kill(target, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):  # nobody there any more, or not yet a group of its own
            continue


def _report_end(sock: socket.socket, pid: int, options: int) -> bool:
    """Tells the keeper how the program ended, if it has."""
    ended, status, usage = os.wait4(pid, options)
    if ended == 0:
        return False
    send_json(sock, {"event": "ended", "status": status, "max_rss_kb": usage.ru_maxrss})
    return True
