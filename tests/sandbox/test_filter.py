"""The system call filter: what it lets through, on both architectures, and its numbers against the system's own headers."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from collm.sandbox.jail import seccomp, syscalls

HEADERS = {
    "x86_64": [Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), Path("/usr/include/asm/unistd_64.h")],
    "aarch64": [Path("/usr/include/asm-generic/unistd.h")],
}
PID = seccomp._ANY_PID
REFUSED, UNKNOWN = seccomp._ERRNO | seccomp._EPERM, seccomp._ERRNO | seccomp._ENOSYS


def decide(machine: str, number: int, *arguments: int, architecture: int | None = None) -> int:
    """What the filter answers, by running it as the kernel would."""
    data = struct.pack("<II8x", number, architecture or seccomp._ARCHITECTURE[machine]) + struct.pack(
        "<6Q", *(*arguments, 0, 0, 0, 0, 0, 0)[:6]
    )
    code = list(struct.iter_unpack("<HBBI", seccomp._template(machine)))
    position, loaded = 0, 0
    while True:
        operation, when_true, when_false, value = code[position]
        position += 1
        if operation == seccomp._LOAD:
            loaded = struct.unpack_from("<I", data, value)[0]
        elif operation == seccomp._RETURN:
            return value
        else:
            holds = loaded == value if operation == seccomp._EQUAL else loaded >= value
            position += when_true if holds else when_false


@pytest.mark.parametrize("machine", syscalls.MACHINES)
def test_exactly_the_listed_calls_are_allowed(machine):
    allowed, checked = set(syscalls.allowed(machine)), set(syscalls.checked(machine).values())
    assert not allowed & checked
    for number in range(1000):
        if number not in checked:
            expected = seccomp._ALLOW if number in allowed else UNKNOWN if number >= 424 else REFUSED
            assert decide(machine, number, 7, 7, 7) == expected, number


@pytest.mark.parametrize("machine", syscalls.MACHINES)
def test_arguments_decide(machine):
    calls = syscalls.checked(machine)
    for name in ("kill", "tkill", "tgkill"):
        assert decide(machine, calls[name], PID, 9) == seccomp._ALLOW
        for other in (0, 1, 2**32 - 1, 2**64 - 1, PID + 1):
            assert decide(machine, calls[name], other, 9) == REFUSED
    assert decide(machine, calls["prlimit64"], 0) == decide(machine, calls["prlimit64"], PID) == seccomp._ALLOW
    assert decide(machine, calls["prlimit64"], 1) == REFUSED
    assert decide(machine, calls["ioctl"], 1, 0x5401) == seccomp._ALLOW
    assert decide(machine, calls["ioctl"], 1, 0x5412) == REFUSED  # TIOCSTI
    assert decide(machine, calls["fcntl"], 1, 3) == seccomp._ALLOW
    assert decide(machine, calls["fcntl"], 1, 8) == REFUSED  # F_SETOWN


@pytest.mark.parametrize("machine", syscalls.MACHINES)
def test_other_tables_kill(machine):
    read = syscalls.allowed(machine)[0]
    assert decide(machine, read, architecture=0x40000003) == seccomp._KILL  # 32-bit x86
    assert decide(machine, read | 0x40000000) == seccomp._KILL  # x32


@pytest.mark.parametrize("machine", syscalls.MACHINES)
def test_numbers_are_those_of_the_system_headers(machine):
    found = [path for path in HEADERS[machine] if path.exists()]
    if not found:
        pytest.skip(f"no header with the system calls of {machine} is installed")
    text = found[0].read_text()
    numbers = {name: int(number) for name, number in re.findall(r"#define __NR_(\w+)\s+(\d+)", text)}
    numbers |= {name: int(number) for name, number in re.findall(r"#define __NR3264_(\w+)\s+(\d+)", text)}
    table = syscalls._table(syscalls._ALLOWED, machine) | syscalls.checked(machine)
    renamed = {"newfstatat": "fstatat"} if machine == "aarch64" else {}
    assert {name: number for name, number in table.items() if numbers.get(renamed.get(name, name)) != number} == {}
    assert len(table) > 90


@pytest.mark.parametrize("machine", syscalls.MACHINES)
def test_what_makes_processes_or_reaches_out_is_not_in_the_list(machine):
    names = set(syscalls._table(syscalls._ALLOWED, machine))
    forbidden = (
        "clone clone3 fork vfork execve execveat socket socketpair connect bind ptrace process_vm_readv process_vm_writev prctl setns "
        "unshare mount umount2 pivot_root chroot setuid setgid setsid setpgid chmod fchmodat chown setxattr truncate memfd_create "
        "shmget msgget semget mq_open io_uring_setup bpf perf_event_open userfaultfd keyctl open_by_handle_at seccomp"
    )
    assert not names & set(forbidden.split())
