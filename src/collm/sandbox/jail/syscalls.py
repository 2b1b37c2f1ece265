"""What a confined process may ask of the kernel: names with their numbers on x86_64 and aarch64 (`-`: none there).

From Linux's asm/unistd_64.h and asm-generic/unistd.h; a test compares them where those headers are installed.
"""

from __future__ import annotations

_ALLOWED = """
    open 2 -, openat 257 56, close 3 57, close_range 436 436, lseek 8 62, read 0 63, write 1 64, readv 19 65, writev 20 66,
    pread64 17 67, pwrite64 18 68, preadv 295 69, pwritev 296 70, stat 4 -, fstat 5 80, lstat 6 -, newfstatat 262 79, statx 332 291,
    statfs 137 43, fstatfs 138 44, access 21 -, faccessat 269 48, faccessat2 439 439, readlink 89 -, readlinkat 267 78, getdents 78 -,
    getdents64 217 61, getcwd 79 17, chdir 80 49, fchdir 81 50, mkdir 83 -, mkdirat 258 34, rmdir 84 -, unlink 87 -, unlinkat 263 35,
    rename 82 -, renameat 264 38, renameat2 316 276, link 86 -, linkat 265 37, symlink 88 -, symlinkat 266 36, ftruncate 77 46,
    fallocate 285 47, fsync 74 82, fdatasync 75 83, umask 95 166, dup 32 23, dup2 33 -, dup3 292 24, pipe 22 -, pipe2 293 59,
    sendfile 40 71, copy_file_range 326 285,
    mmap 9 222, munmap 11 215, mprotect 10 226, mremap 25 216, madvise 28 233, brk 12 214, msync 26 227,
    rt_sigaction 13 134, rt_sigprocmask 14 135, rt_sigreturn 15 139, rt_sigpending 127 136, rt_sigtimedwait 128 137,
    rt_sigsuspend 130 133, sigaltstack 131 132, restart_syscall 219 128, getitimer 36 102, setitimer 38 103, alarm 37 -, pause 34 -,
    nanosleep 35 101, clock_nanosleep 230 115, clock_gettime 228 113, clock_getres 229 114, gettimeofday 96 169, time 201 -,
    times 100 153,
    poll 7 -, ppoll 271 73, select 23 -, pselect6 270 72, epoll_create 213 -, epoll_create1 291 20, epoll_ctl 233 21, epoll_wait 232 -,
    epoll_pwait 281 22, eventfd2 290 19, futex 202 98, wait4 61 260, waitid 247 95,
    set_robust_list 273 99, rseq 334 293, sched_yield 24 124, sched_getaffinity 204 123, arch_prctl 158 -, getcpu 309 168,
    getpid 39 172, getppid 110 173, gettid 186 178, getuid 102 174, geteuid 107 175, getgid 104 176, getegid 108 177,
    getresuid 118 148, getresgid 120 150, getgroups 115 158, getpgrp 111 -, uname 63 160, sysinfo 99 179, getrusage 98 165,
    getrlimit 97 163, getrandom 318 278, exit 60 93, exit_group 231 94
"""

# Allowed with some arguments only: seccomp.py says which.
_CHECKED = "kill 62 129, tkill 200 130, tgkill 234 131, prlimit64 302 261, ioctl 16 29, fcntl 72 25"

_COLUMNS = {"x86_64": 1, "aarch64": 2}
MACHINES = tuple(_COLUMNS)


def allowed(machine: str) -> list[int]:
    """The numbers of the system calls that need no look at their arguments."""
    return list(_table(_ALLOWED, machine).values())


def checked(machine: str) -> dict[str, int]:
    """The system calls whose arguments decide, by name."""
    return _table(_CHECKED, machine)


def _table(text: str, machine: str) -> dict[str, int]:
    rows = [entry.split() for entry in text.split(",")]
    column = _COLUMNS[machine]
    return {row[0]: int(row[column]) for row in rows if row[column] != "-"}
