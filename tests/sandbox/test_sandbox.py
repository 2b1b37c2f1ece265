"""What the sandbox says of programs and tests, and what programs find there."""

from __future__ import annotations

import math

import pytest
from sandbox.hostile import verdicts

from collm.sandbox import Job, Level, Limits, ProgramStatus, Sandbox, SandboxError, TestStatus

INC = "def inc(x):\n    return x + 1\n"
SHORT = Limits(seconds=0.4)


def statuses(verdict):
    return [result.status for result in verdict.results]


def errors(verdict):
    return [result.error for result in verdict.results]


def test_each_test_is_judged_on_its_own(box):
    tests = [
        "assert inc(1) == 2",
        "assert inc(1) == 3",
        "assert inc('a')",
        "assert missing(1)",
        "inc(1)\nwhile True: inc(1)",
        "assert inc(2) == 3",
    ]
    verdict = box.run(INC, tests, SHORT)
    assert statuses(verdict) == ["passed", "failed", "error", "error", "timeout", "passed"]
    assert errors(verdict) == [
        "",
        "AssertionError",
        'TypeError: can only concatenate str (not "int") to str',
        "NameError: name 'missing' is not defined",
        "no result after 0.4 s",
        "",
    ]
    assert (verdict.status, verdict.error, verdict.passed, verdict.all_passed) == ("ok", "", 2, False)
    assert 0.4 <= verdict.results[4].seconds < 5
    assert verdict.seconds >= sum(result.seconds for result in verdict.results)


def test_tests_cannot_disturb_each_other(box):
    program = (
        "seen = []\ndef add(x):\n    seen.append(x)\n    open('file', 'a').write('x')\n    return len(seen), len(open('file').read())\n"
    )
    verdict = box.run(program, ["assert add(1) == (1, 1)", "add(1); assert add(1) == (2, 2)", "assert add(1) == (1, 1)"])
    assert verdict.all_passed


def test_after_many_timeouts_the_rest_is_not_run(box):
    program = "def f(x):\n    while x: pass\n    return 0\n"
    tests = ["assert f(0) == 0", "f(1)", "f(2)", "assert f(0) == 0", "f(3)"]
    assert statuses(box.run(program, tests, Limits(seconds=0.2, max_timeouts=2))) == ["passed", "timeout", "timeout", "not_run", "not_run"]
    assert statuses(box.run(program, tests, Limits(seconds=0.2, max_timeouts=3))) == ["passed", "timeout", "timeout", "passed", "timeout"]
    assert statuses(box.run(program, tests[:4], Limits(seconds=0.2))) == ["passed", "timeout", "timeout", "passed"]


@pytest.mark.parametrize(
    ("program", "status", "error", "test_status"),
    [
        ("def f(:\n  pass", "syntax_error", "SyntaxError: invalid syntax (line 1, column 7)", "error"),
        ("x = (", "syntax_error", "SyntaxError: '(' was never closed (line 1, column 5)", "error"),
        ("\0", "syntax_error", None, "error"),
        ("1 / 0", "load_error", "ZeroDivisionError: division by zero", "error"),
        ("import nothing_like_it", "load_error", "ModuleNotFoundError: No module named 'nothing_like_it'", "error"),
        ("raise SystemExit(3)", "load_error", "SystemExit: 3", "error"),
        ("while True: pass", "load_timeout", "still running after 0.4 s", "timeout"),
        ("x = bytearray(1 << 32)", "memory", "MemoryError", "memory"),
        ("import os; os._exit(3)", "crashed", "the program ended while it was loaded: exit code 3", "crashed"),
        (
            "import ctypes; ctypes.string_at(1)",
            "crashed",
            "the program ended while it was loaded: killed by signal 11 (SIGSEGV)",
            "crashed",
        ),
    ],
)
def test_a_program_that_does_not_load(box, program, status, error, test_status):
    verdict = box.run(program, ["assert f(1)", "assert True"], SHORT)
    assert verdict.status == ProgramStatus(status)
    assert error is None or verdict.error == error
    assert statuses(verdict) == [test_status] * 2
    assert errors(verdict) == [verdict.error] * 2
    assert verdict.passed == 0


@pytest.mark.parametrize(
    ("program", "status", "error"),
    [
        ("print('hi')", "ok", ""),
        ("import sys; sys.exit()", "ok", ""),
        ("import sys; sys.exit(3)", "exited", "exit code 3"),
        ("import sys; sys.exit('bye')", "exited", "exit code 1"),
        ("import os; os._exit(300)", "exited", "exit code 44"),
        ("import ctypes; ctypes.string_at(1)", "crashed", "killed by signal 11 (SIGSEGV)"),
        ("assert False, 'no'", "load_error", "AssertionError: no"),
        ("x = 'x' * (1 << 32)", "memory", "MemoryError"),
        ("x = 1 +", "syntax_error", "SyntaxError: invalid syntax (line 1, column 8)"),
        ("while True: pass", "load_timeout", "still running after 0.4 s"),
        ("import os; os.closerange(0, 64)", "ok", ""),
    ],
)
def test_a_program_without_tests(box, program, status, error):
    verdict = box.run(program, (), SHORT)
    assert (verdict.status, verdict.error, verdict.results, verdict.all_passed) == (ProgramStatus(status), error, (), False)


def test_a_program_alone_is_run_as_python_runs_it(box):
    program = """
import atexit, sys
atexit.register(print, "at the end")
print(__name__, sys.argv)
print("to the side", file=sys.stderr)
if __name__ == "__main__":
    1 / 0
"""
    output = box.run(program).output
    assert "__main__ ['program.py']\n" in output
    assert "to the side\n" in output
    assert 'File "program.py", line 7, in <module>\n    1 / 0\n' in output
    assert output.rstrip().endswith("at the end")
    assert "jail" not in output
    assert box.run("if __name__ == '__main__': 1 / 0\ndef f(): return __name__", ["assert f() == 'program'"]).all_passed


def test_what_a_program_finds(box):
    program = """
import os, sys, time
def look():
    return {
        "directory": os.listdir("."), "where": os.getcwd(), "environment": dict(os.environ), "input": sys.stdin.read(),
        "pid": os.getpid(), "parent": os.getppid(), "user": os.getuid() != 0, "descriptors": [fd for fd in range(64) if there(fd)],
        "host": os.uname().nodename,
        "modules": [name for name in ("torch", "numpy", "collm", "platform") if name in sys.modules],
        "path": [p for p in sys.path if "collm" in p],
    }
def there(fd):
    try: os.fstat(fd)
    except OSError: return False
    return True
"""
    found = """
assert look() == {
    "directory": [], "where": "/sandbox", "environment": {}, "input": "", "pid": 1, "parent": 0, "user": True,
    "descriptors": [0, 1, 2, 3, 4], "host": "sandbox", "modules": [], "path": [],
}, look()
"""
    assert errors(box.run(program, [found])) == [""]


def test_it_is_the_same_every_time(box):
    program = "import random\ndef f(): return [random.random(), list({'a', 'b', 'c', 'd'}), hash('x')]\n"
    first = box.run(program, ["assert f() == 0, repr(f())"])
    with Sandbox(workers=1) as other:
        assert errors(other.run(program, ["assert f() == 0, repr(f())"])) == errors(first)
    assert box.run("", ["import random\nassert random.random() == random.Random(0).random()"]).all_passed


def test_programs_write_files_up_to_their_limit(box):
    program = "def f(n):\n    open('file', 'wb').write(b'x' * n)\n    return open('file', 'rb').read() == b'x' * n\n"
    tests = ["assert f(10_000)", "assert f(100_000)"]
    assert statuses(box.run(program, tests, Limits(file_kb=64))) == ["passed", "error"]
    many = "def f(n):\n    for i in range(n): open(str(i), 'wb').write(b'x' * 10_000)\n    return n\n"
    assert statuses(box.run(many, ["assert f(4)", "f(20)"], Limits(file_kb=64))) == ["passed", "error"]


def test_memory_is_limited(box):
    program = "def f(mb):\n    return len(bytearray(mb << 20))\n"
    assert statuses(box.run(program, ["assert f(40)", "f(200)", "assert f(1)"], Limits(memory_mb=128))) == ["passed", "memory", "passed"]
    assert box.run(program, ["assert f(200)"], Limits(memory_mb=512)).all_passed
    large = box.run("def f(): return ['x' * 100] * 200_000", ["x = [f() for _ in range(9)]"], Limits(memory_mb=96))
    assert statuses(large) == ["memory"]


def test_output_is_cut_off(box):
    verdict = box.run("print('a' * 1000)\nimport sys\nfor _ in range(100): sys.stderr.write('b' * 10_000)", (), Limits(output_kb=2))
    assert len(verdict.output) == 2048
    assert box.run("print('a')", (), Limits(output_kb=0)).output == ""
    assert box.run("import os\nos.write(1, b'\\xff\\xfe')").output == "\ufffd\ufffd"
    assert box.run("print('\\ud800')").output == "\\ud800\n"
    loud = "print('loading')\ndef f(x):\n    print('called', x)\n"
    assert box.run(loud, ["f(1)", "f(2)"]).output == "loading\ncalled 1\n"


@pytest.mark.parametrize("end", ["return x", "raise ValueError"])
def test_output_of_the_last_answer_is_kept(box, end):
    slow = "import sys, time\ndef late(flush=sys.stdout.flush):\n    time.sleep(0.2)\n    flush()\nsys.stdout.flush = late\n"
    assert box.run(f"{slow}def f(x):\n    print('called', x)\n    {end}\n", ["f(1)"]).output == "called 1\n"


def test_names_of_tests(box):
    program = "limit = 3\ndef double(x): return 2 * x\ndef abs(x): return -7\nclass math:\n    isclose = lambda a, b: True\n"
    tests = {
        "assert candidate(2) == 4": "",  # bound
        "assert double(2) == 4 and limit == 3": "",  # the program's own
        "assert helper(2) == 5": "",  # the preamble's
        "assert abs(-1) == 1": "",  # Python's, whatever the program says
        "assert math.isclose(1, 2)": "AssertionError",  # the standard library's
        "assert [double(x) for x in (1, 2)] == list(map(candidate, (1, 2)))": "",
        "def inner(): return double(limit)\nassert inner() == 6": "",
        "assert undefined": "NameError: name 'undefined' is not defined",
    }
    verdict = box.run(program, list(tests), preamble="def helper(x):\n    return candidate(x) + 1\n", bind={"candidate": "double"})
    assert dict(zip(tests, errors(verdict), strict=True)) == tests
    verdict = box.run("def poly(): return True", ["assert poly()"], preamble="def poly(): return False")
    assert statuses(verdict) == ["failed"]
    assert errors(box.run("", ["assert candidate(1)"], bind={"candidate": "entry"})) == ["NameError: name 'entry' is not defined"]
    assert errors(box.run(INC, ["assert inc(1) == 2"], preamble="1 / 0")) == ["ZeroDivisionError: division by zero"]


def test_values_of_all_kinds_go_there_and_back(box):
    values = [
        None,
        True,
        -(10**30),
        1.5,
        2j,
        "é\ud800",
        b"\0",
        (1, (2,)),
        [[], [1]],
        {"a": {1: 2}},
        {1, 2},
        frozenset({3}),
        range(3),
        bytearray(b"x"),
    ]
    tests = [f"given = {value!r}\nback = same(given)\nassert back == given and type(back) is type(given)" for value in values]
    tests += ["assert same(float('inf')) == float('inf') and same(float('nan')) != same(float('nan'))", "assert same(x=1) == 1"]
    assert errors(box.run("def same(x): return x", tests)) == [""] * len(tests)


def test_arguments_are_copies(box):
    program = "def f(x):\n    x.clear()\n    return x\n"
    assert box.run(program, ["given = [1, 2]\nassert f(given) == [] and given == [1, 2]"]).all_passed


def test_objects_that_are_no_plain_data(box):
    program = """
import collections
def squares(n):
    for i in range(n): yield i * i
class Stack:
    def __init__(self): self.items = []
    def push(self, x): self.items.append(x); return self
    def pop(self): return self.items.pop()
    def __len__(self): return len(self.items)
def none(): return map(str, [1, 2])
def apply(g, x): return g(x)
def count(): return collections.Counter("aab")
"""
    no_data = "TypeError: the program gave an object of class 'generator', which is no plain data: a test cannot judge it"
    tests = {
        "assert list(squares(4)) == [0, 1, 4, 9]": "",
        "it = squares(4)\nassert next(it) == 0 and list(it) == [1, 4, 9]": "",
        "assert sorted(none()) == ['1', '2'] and '2' in none()": "",
        "s = Stack()\ns.push(3).push(4)\nassert s.pop() == 4 and s.items == [3]": "",
        "assert apply(Stack, ()).items == []": "TypeError: Stack.__init__() takes 1 positional argument but 2 were given",
        "assert apply(squares, 3) is not None": "",
        "assert count() == {'a': 2, 'b': 1}": "",
        "assert squares(3) == [0, 1, 4]": no_data,
        "assert not squares(3)": no_data,
        "assert 'generator' in str(squares(3))": no_data,
        "assert len({squares(3), squares(3)}) == 2": no_data,
        "apply(lambda x: x, 1)": "TypeError: an object of class 'function' is no plain data and cannot be handed to the program",
    }
    assert dict(zip(tests, errors(box.run(program, list(tests))), strict=True)) == tests


def test_exceptions_keep_their_kind(box):
    program = """
class Mine(KeyError): pass
def f(x):
    raise [Mine("a"), ValueError("b"), OSError(2, "c"), UnicodeDecodeError("utf-8", b"", 0, 1, "d"), StopIteration(5)][x]
"""
    template = "try:\n    f({})\nexcept {} as error:\n    assert type(error).__name__ == {!r}, type(error)\nelse:\n    assert False"
    kinds = [
        ("KeyError", "Mine"),
        ("ValueError", "ValueError"),
        ("FileNotFoundError", "FileNotFoundError"),
        ("ValueError", "UnicodeDecodeError"),
        ("Exception", "StopIteration"),
    ]
    verdict = box.run(program, [template.format(n, caught, name) for n, (caught, name) in enumerate(kinds)])
    assert errors(verdict) == [""] * 5
    assert errors(box.run(program, ["f(0)", "f(2)"])) == ["Mine: 'a'", "FileNotFoundError: [Errno 2] c"]


def test_an_end_of_iteration_that_the_program_raises_ends_no_iteration(box):
    program = "def f(x): raise StopIteration\ndef g(x): return iter([x])\n"
    tests = [
        "assert all(map(f, [1, 2]))",
        "assert list(map(f, [1])) == []",
        "assert all(f(x) for x in [1])",
        "assert list(map(next, map(g, [1]))) == [1]",
    ]
    assert statuses(box.run(program, tests)) == ["error", "error", "error", "passed"]


def test_errors_are_one_short_line(box):
    verdict = box.run("def f():\n    raise ValueError('a\\n\\x1b[2J' + 'b' * 10_000)", ["f()", "assert False, 'c\\n' * 1000"])
    for error in errors(verdict):
        assert error.isprintable()
        assert len(error) == 300
    assert errors(verdict)[0].startswith("ValueError: a [2Jbbb")


def test_many_at_once_in_their_order(box):
    jobs = [Job(f"def f(): return {n}", (f"assert f() == {n}", f"assert f() == {n % 7}")) for n in range(40)]
    verdicts = box.run_many(jobs)
    assert [verdict.passed for verdict in verdicts] == [2 if n < 7 else 1 for n in range(40)]
    assert box.run_many([]) == []


def test_more_tests_than_one_evaluator_takes(box):
    tests = [f"assert inc({n}) == {n + (n != 17)}" for n in range(40)]
    assert [result.passed for result in box.run(INC, tests).results] == [n != 17 for n in range(40)]


def test_no_trace_of_tests_or_other_programs_in_a_program(box):
    """The program looks through everything that the interpreter holds, for words that stand in a test and in an earlier program."""
    box.run_many([Job("word = 'neighbour' + 'hood-12345'\nx = 'plain-neighbour-12345'\n")] * 4)
    program = """
import gc
def f():
    held = [str(thing) for thing in gc.get_objects() if isinstance(thing, (dict, list, tuple, str))]
    words = map("-".join, [("secret", "54321"), ("neighbour", "12345"), ("own", "word")])
    return [word for word in words if any(word in text for text in held)]
own = ["own-word"]
"""
    assert errors(box.run(program, ["found = f()\nassert found == ['own-word'], found\nassert 'secret-54321'"])) == [""]


def test_a_program_that_searches_its_memory_finds_what_is_there(box):
    """The hostile program that reads its memory does find a number in it, so it means something that it never finds a test's."""
    program = verdicts.PROGRAMS["searches_its_memory_for_the_answer"]
    hidden = "\nhidden = ('7391' + '1' * 11).encode()\n"
    found = box.run(program + hidden, ["assert f(0) == 739111111111111"], Limits(seconds=30.0))
    assert errors(found) == [""]
    assert errors(box.run(program, ["assert f(0) is None, 739122222222222"], Limits(seconds=30.0))) == [""]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tests": ["assert inc(1) =="]}, "test 1 is not valid Python"),
        ({"tests": ["assert True", "return 1"]}, "test 2 is not valid Python: 'return' outside function"),
        ({"tests": [], "preamble": "import"}, "the preamble is not valid Python"),
    ],
)
def test_invalid_tests_are_told(box, given, message):
    with pytest.raises(SandboxError, match=message):
        box.run(INC, **given)
    assert box.run(INC, ["assert inc(1) == 2"]).all_passed


@pytest.mark.parametrize(
    "wrong",
    [
        {"seconds": 0},
        {"seconds": math.inf},
        {"seconds": math.nan},
        {"memory_mb": 10},
        {"memory_mb": 1 << 60},
        {"output_kb": -1},
        {"file_kb": 0},
        {"max_timeouts": 0},
    ],
)
def test_limits_that_make_no_sense(wrong):
    with pytest.raises(SandboxError, match=next(iter(wrong))):
        Limits(**wrong)


def test_levels_are_named():
    assert [level.value for level in Level] == ["full", "filtered", "rlimits"]
    assert TestStatus("not_run") is TestStatus.NOT_RUN
