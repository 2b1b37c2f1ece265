"""Hostile programs at every level, as root (where the tests run as root) and as an ordinary user, with and without namespaces."""

from __future__ import annotations

import json
import sys

import pytest
from sandbox.hostile import escapes, exhaustion, values, verdicts
from sandbox.launch import HERE, launch

RUN = str(HERE / "hostile" / "run.py")
MODULES = (verdicts, values, escapes, exhaustion)
NAMES = [name for module in MODULES for name in module.PROGRAMS]
MOST_SECONDS = 10.0  # per program: five questions of a quarter of a second at most, on a machine that does much else

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="the stronger levels need Linux")]

WITHOUT_NAMESPACES = ("--deny", "unshare,mount")
BARE = ("--without", "namespaces,landlock,seccomp")


def run(*arguments: str, as_user: bool = False) -> dict:
    done = launch(RUN, *arguments, as_user=as_user)
    if "cannot be had" in done.stderr:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("arguments", "as_user"),
    [
        (("full",), False),
        (("full",), True),
        (("filtered", *WITHOUT_NAMESPACES), False),
        (("filtered", *WITHOUT_NAMESPACES), True),
        (("rlimits", *BARE), True),
    ],
    ids=["full", "full-user", "filtered", "filtered-user", "rlimits-user"],
)
def test_no_program_escapes_hangs_passes_or_leaves_anything(arguments, as_user):
    told = run(*arguments, as_user=as_user)
    assert told["problems"] == []
    assert {name: verdict for name, verdict in told["verdicts"].items() if verdict["passed"]} == {}
    assert {name: verdict for name, verdict in told["verdicts"].items() if verdict["seconds"] > MOST_SECONDS} == {}
    assert {name: verdict for name, verdict in told["verdicts"].items() if verdict["output"] > 64 << 10} == {}
    assert set(told["verdicts"]) | set(told["skipped"]) == set(NAMES)
    if arguments[0] != "rlimits":
        assert told["skipped"] == []
        promises = [name for name in told["enforced"] if name not in ("namespaces", "landlock", "unprivileged_user")]
        assert [name for name in promises if not told["enforced"][name]] == []


def test_the_suite_bites_where_nothing_holds_a_program():
    """The lowest level says that files are open to programs, and they are: the program that reads the answer from one passes."""
    told = run("rlimits", *BARE, "--only", "reads_the_parents_file", as_user=True)
    assert not told["enforced"]["no_other_files"]
    assert told["verdicts"]["reads_the_parents_file"]["passed"] > 0


def test_there_are_enough_of_them():
    assert len(set(NAMES)) == len(NAMES) >= 60
