"""Levels: what each takes, what it says of itself, and that less than what was asked for is never taken silently."""

from __future__ import annotations

import json
import os
import sys

import pytest
from sandbox.launch import launch

from collm.sandbox import Level, Sandbox, SandboxError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="about what Linux gives")

PROGRAM = "def inc(x):\n    return x + 1\n"

TRY = """
import json, sys
from sandbox.denial import deny
from collm.sandbox import Level, Sandbox, SandboxError
if sys.argv[2]:
    deny(*sys.argv[2].split(","))
try:
    with Sandbox(Level(sys.argv[1]), workers=1, without=[name for name in sys.argv[3].split(",") if name]) as box:
        right = box.run("def f(): return 1", ["assert f() == 1", "assert f() == 2"]).passed == 1
        print(json.dumps([right, box.enforced]))
except SandboxError as error:
    print(json.dumps([str(error)]))
"""


def attempt(level: str, deny: str = "", without: str = "", as_user: bool = False) -> list:
    done = launch("-c", TRY, level, deny, without, as_user=as_user)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


@pytest.mark.parametrize("as_user", [False, True], ids=["as-it-is", "user"])
def test_full_means_that_every_promise_holds(box, as_user):
    right, enforced = attempt("full", as_user=as_user)
    assert right
    assert [name for name, holds in enforced.items() if not holds and name not in ("landlock", "unprivileged_user")] == []


@pytest.mark.parametrize("as_user", [False, True], ids=["as-it-is", "user"])
def test_where_namespaces_are_refused_the_lower_level_has_to_be_named(as_user):
    (message,) = attempt("full", deny="unshare,mount", as_user=as_user)
    assert message.startswith("the sandbox level 'full' cannot be had on this machine, which does not give: namespaces (unshare: ")
    assert "asked for by name: 'filtered' (" in message
    right, enforced = attempt("filtered", deny="unshare,mount", as_user=as_user)
    assert right
    lacking = {name for name, holds in enforced.items() if not holds}
    assert "namespaces" in lacking
    assert lacking <= {"namespaces", "unprivileged_user"}


def test_a_namespace_without_mounts_is_no_namespace():
    """Some systems let everybody make namespaces but do nothing in them."""
    (message,) = attempt("full", deny="mount")
    assert "does not give: namespaces (mount: " in message


def test_without_landlock_and_namespaces_only_the_lowest_level_is_left():
    (message,) = attempt("filtered", deny="unshare,mount,landlock_create_ruleset", as_user=True)
    assert "does not give: landlock (" in message
    assert "'rlimits' (" in message
    assert "'filtered' (" not in message
    right, enforced = attempt("rlimits", deny="unshare,mount,landlock_create_ruleset", as_user=True)
    assert right
    assert enforced["seccomp"]  # what the machine gives beyond the level is used
    assert enforced["no_network"]
    assert not enforced["no_other_files"]


def test_full_does_not_need_landlock(box):
    right, enforced = attempt("full", deny="landlock_create_ruleset")
    assert right
    assert not enforced["landlock"]
    assert enforced["no_other_files"]


def test_a_low_level_still_takes_what_the_machine_gives(box):
    with Sandbox(Level.RLIMITS, workers=1) as low:
        assert low.enforced == box.enforced


def test_programs_do_not_run_as_root_with_limits_only():
    told = attempt("rlimits", without="namespaces,landlock,seccomp")
    if os.geteuid() == 0 and len(told) == 1:
        assert "programs would run as root" in told[0]
        assert "run collm as an ordinary user" in told[0]
    else:
        assert told[0]
        assert told[1]["unprivileged_user"]


def test_mechanisms_can_be_left_out_by_name_only():
    with pytest.raises(SandboxError, match="no mechanism 'chroot'"):
        Sandbox(without=["chroot"])
    with pytest.raises(SandboxError, match=r"'full' cannot be had .* seccomp \(not wanted\)"):
        Sandbox(without=["seccomp"])
    with pytest.raises(SandboxError, match="at least one worker"):
        Sandbox(workers=0)
