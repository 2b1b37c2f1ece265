"""The tests of a problem one by one (tasks.md section 2)."""

import json

import pytest

from collm.envs.coding.asserts import split_check, split_list
from collm.errors import DataError


def test_each_assert_stands_alone_with_what_it_needs():
    source = """
METADATA = {"author": "x"}
import math

def close(a, b):
    return abs(a - b) < 1e-6

def check(candidate):
    # a comment
    print
    assert candidate(1) == 2, "message " + str(candidate(1))
    unused = 3
    lst = list(range(4))
    total = sum(lst)
    assert True, "tests nothing"
    assert candidate(lst) == total
    for x in range(3):
        assert candidate(x) == x + 1, x
"""
    suite = split_check(source, "import re")
    assert suite.preamble == "import re\nimport math\ndef close(a, b):\n    return abs(a - b) < 1e-06"
    assert suite.asserts == (
        "assert candidate(1) == 2",
        "lst = list(range(4))\ntotal = sum(lst)\nassert candidate(lst) == total",
        "for x in range(3):\n    assert candidate(x) == x + 1",
    )
    assert suite.calls == "candidate"


def test_tests_that_draw_at_random_are_seeded():
    source = "def check(candidate):\n    import random\n    for _ in range(2):\n        assert candidate(random.random()) > 0\n"
    suite = split_check(source)
    assert suite.preamble == "import random\nrandom.seed(0)"
    assert suite.asserts == ("import random\nfor _ in range(2):\n    assert candidate(random.random()) > 0",)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1", "defines no check"),
        ("def check(candidate:\n", r"is not Python: .* \(line 1\)"),
        ("def check(f):\n    assert f(1)", r"check takes \(f\)"),
        ("def check(candidate):\n    assert True", "holds no assert"),
        ("def check(candidate):\n    return\n    assert candidate(1)", r"return or yield .*line 2"),
        ("def check(candidate):\n    assert candidate(1) == '\0'", "cannot be read as Python|is not Python"),
    ],
)
def test_a_bad_check_is_named(source, message):
    with pytest.raises(DataError, match=message):
        split_check(source)


def test_a_list_of_asserts():
    suite = split_list(["assert f(1) == 2", "x = 3\nassert f(x) == 4, 'm'"], "import math\n")
    assert suite == ("import math", ("assert f(1) == 2", "x = 3\nassert f(x) == 4"), None)
    bad = {"is empty": [], "holds no assert": ["f(1)"], "0 is not Python": ["assert f(1", "1"], "2 asserts": ["assert a\nassert b"]}
    for message, asserts in bad.items():
        with pytest.raises(DataError, match=message):
            split_list(asserts)


def test_all_real_tests_are_split(shared):
    counts = {}
    for name in ("humaneval/HumanEval", "coophumaneval/CoopHumanEval"):
        rows = [json.loads(line) for line in (shared / "data" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
        suites = [split_check(row["test"]) for row in rows]
        counts[name] = [len(suite.asserts) for suite in suites]
        if "n_asserts" in rows[0]:
            assert counts[name] == [row["n_asserts"] for row in rows]
        assert all("assert True" not in suite.asserts for suite in suites)
    assert [len(found) for found in counts.values()] == [164, 82]
    assert min(map(min, counts.values())) == 1
