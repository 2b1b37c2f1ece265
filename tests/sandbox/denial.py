"""Takes system calls away from this process, as a container's own filter does."""

from __future__ import annotations

import platform

from collm.sandbox.jail import seccomp
from collm.sandbox.jail.libc import PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, prctl

NUMBERS = {
    "x86_64": {"unshare": 272, "mount": 165, "landlock_create_ruleset": 444},
    "aarch64": {"unshare": 97, "mount": 40, "landlock_create_ruleset": 444},
}


def deny(*names: str) -> None:
    """The named system calls fail with EPERM from now on, for this process and those it starts."""
    code = [seccomp._statement(seccomp._LOAD, seccomp._NUMBER_OFFSET)]
    for name in names:
        code += [
            seccomp._jump(seccomp._EQUAL, NUMBERS[platform.machine()][name], 0, 1),
            seccomp._statement(seccomp._RETURN, seccomp._ERRNO | seccomp._EPERM),
        ]
    code.append(seccomp._statement(seccomp._RETURN, seccomp._ALLOW))
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_SECCOMP, 2, seccomp._Program(len(code), b"".join(code)))
