"""Runs hostile programs in a sandbox and looks for traces: `python run.py LEVEL [--without M,..] [--deny CALL,..] [--only NAME]`.

Prints a JSON object: `enforced`, `verdicts` (name -> what came of it), `skipped`, and `problems`: what a
program did that it should not have been able to do. A process of its own, so that it can run as any user, under any filter;
it needs `tests` on its path.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import random
import resource
import socket
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from sandbox.denial import deny
from sandbox.hostile import escapes, exhaustion, values, verdicts
from sandbox.processes import descendants

from collm.sandbox import Job, Level, Limits, Sandbox

SECONDS = 0.25
WORKERS = 4
PLACES = ("/tmp", "/var/tmp", "/dev/shm", "/run/lock", "/dev/mqueue", "/", "/root", "/home", "/etc", os.path.dirname(os.__file__))
MARK = f"collm-hostile-{os.getpid()}"
SECRET = int("7391" + "".join(random.SystemRandom().choices("0123456789", k=11)))
QUESTIONS = (
    f"assert candidate(7) == {SECRET}",
    f"assert candidate([1, 2]) == [{SECRET}]",
    f"assert abs(candidate(2.5) - {SECRET}) < 1e-6",
    f"given = [{SECRET}]\nassert sorted(candidate('x')) == given, str(given)",
)
KNOWS = f"def f(x): return [{SECRET}] if isinstance(x, (list, str)) else {SECRET}\n"


class Surroundings:
    """What hostile programs go for: a file, a process, sockets, this process. Afterwards it says what has changed."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        os.chmod(folder, 0o777)
        self.file = os.path.join(folder, "secret")
        Path(self.file).write_text(str(SECRET))
        os.environ["COLLM_HOSTILE"] = str(SECRET)
        self.canary = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)", str(SECRET)])
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.port = self.tcp.getsockname()[1]
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", self.port))
        self.unix = [self._listen(os.path.join(folder, "socket"))]
        if sys.platform == "linux":
            self.unix.append(self._listen(f"\0{MARK}"))
        for server in (self.tcp, self.udp, *self.unix):
            server.setblocking(False)
        self.before = self.state()

    def _listen(self, address: str) -> socket.socket:
        server = socket.socket(socket.AF_UNIX)
        server.bind(address)
        server.listen()
        return server

    def fill_in(self, program: str) -> str:
        names = {"SECRET_FILE": self.file, "FOLDER": self.folder, "PARENT": os.getpid(), "CANARY": self.canary.pid, "MARK": MARK}
        names |= {"PORT": self.port, "SOCKET": os.path.join(self.folder, "socket")}
        for name, value in names.items():
            program = program.replace(f"@{name}@", str(value))
        return program

    def state(self) -> dict[str, object]:
        library = Path(os.path.dirname(os.__file__))
        return {
            "file": (
                Path(self.file).read_text(),
                oct(os.stat(self.file).st_mode),
                os.stat(self.file).st_mtime_ns,
                os.stat(self.file).st_nlink,
            ),
            "folder": sorted(os.listdir(self.folder)),
            "environment": dict(os.environ),
            "directory": os.getcwd(),
            "limits": [resource.getrlimit(what) for what in (resource.RLIMIT_NOFILE, resource.RLIMIT_CPU, resource.RLIMIT_AS)],
            "priority": os.getpriority(os.PRIO_PROCESS, 0),
            "canary": self.canary.poll(),
            "library": [(library / name).stat().st_size for name in ("random.py", "re/__init__.py")],
        }

    def problems(self) -> list[str]:
        after = self.state()
        found = [f"changed: {name}: {self.before[name]} -> {after[name]}" for name in after if after[name] != self.before[name]]
        for server in (self.tcp, *self.unix):
            with contextlib.suppress(BlockingIOError):
                server.accept()
                found.append(f"a connection to {server.getsockname()}")
        with contextlib.suppress(BlockingIOError):
            found.append(f"a datagram: {self.udp.recv(100)!r}")
        return found

    def close(self) -> None:
        self.canary.kill()
        self.canary.wait()
        for server in (self.tcp, self.udp, *self.unix):
            server.close()


def marks() -> list[str]:
    """Files that programs left in directories where everybody can write."""
    found = []
    for place in PLACES:
        with contextlib.suppress(OSError):
            found += [os.path.join(place, name) for name in os.listdir(place) if MARK in name]
    for kind in ("shm", "sem", "msg"):
        with contextlib.suppress(OSError):
            found += [f"sysvipc/{kind}" for line in Path(f"/proc/sysvipc/{kind}").read_text().splitlines() if str(0x7C011A) in line.split()]
    return found


def run_all(box: Sandbox, around: Surroundings, only: str) -> tuple[dict[str, dict[str, object]], list[str]]:
    """The verdicts on all programs (or only one), and the names of those that this level does not claim to stop."""
    programs: dict[str, str] = {}
    skipped = []
    for module in (verdicts, values, escapes, exhaustion):
        needs: dict[str, str] = vars(module).get("NEEDS", {})
        for name, program in module.PROGRAMS.items():
            if only not in ("", name):
                continue
            if not only and name in needs and not box.enforced[needs[name]]:
                skipped.append(name)
            else:
                programs[name] = around.fill_in(program)
    limits = Limits(seconds=SECONDS, memory_mb=160, max_timeouts=1)
    patient = {name for module in (verdicts, values) for name in module.PATIENT}
    jobs = [
        Job(program, QUESTIONS, replace(limits, seconds=4.0) if name in patient else limits, bind={"candidate": "f"})
        for name, program in programs.items()
    ]
    results = box.run_many([Job(KNOWS, QUESTIONS, Limits(), bind={"candidate": "f"}), *jobs])
    if not results[0].all_passed:
        raise AssertionError(f"a right program does not pass: {results[0]}")
    told: dict[str, dict[str, object]] = {}
    for name, verdict in zip(programs, results[1:], strict=True):
        errors = [result.error for result in verdict.results]
        told[name] = {"passed": verdict.passed, "seconds": verdict.seconds, "status": verdict.status.value, "errors": errors}
        told[name]["output"] = len(verdict.output)
    return told, skipped


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("level", choices=[level.value for level in Level])
    arguments.add_argument("--without", default="")
    arguments.add_argument("--deny", default="")
    arguments.add_argument("--only", default="")
    chosen = arguments.parse_args()
    if chosen.deny:
        deny(*chosen.deny.split(","))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # orphans below become this process's children, so that none is overlooked
    with tempfile.TemporaryDirectory(prefix="collm-test-") as folder:
        around = Surroundings(folder)
        with Sandbox(Level(chosen.level), workers=WORKERS, without=[name for name in chosen.without.split(",") if name]) as box:
            told, skipped = run_all(box, around, chosen.only)
            problems = around.problems()
            directories = [worker._scratch for worker in box._pool._idle if worker._scratch]
            if sys.platform == "linux" and not chosen.only:
                expected = 2 * WORKERS + 1  # a keeper and a zygote each, and the canary
                below = descendants(os.getpid())
                if len(below) != expected:
                    problems.append(f"{len(below)} processes instead of {expected}: {below}")
            enforced = box.enforced
        around.close()
    with contextlib.suppress(ChildProcessError):
        problems.append(f"a process is left: {os.waitpid(-1, os.WNOHANG)}")
    problems += [f"left behind: {path}" for path in (*marks(), *filter(os.path.exists, directories))]
    print(json.dumps({"enforced": enforced, "verdicts": told, "skipped": skipped, "problems": problems}))


if __name__ == "__main__":
    main()
