"""`collm sandbox`: the last line is its own, whatever the program prints."""

from __future__ import annotations

import json
import os

import pytest

from collm.cli.main import app_main


@pytest.fixture
def run(box, tmp_path, capsys):
    """Runs the command on a program and, if given, tests; returns its JSON line and what came before."""

    def call(program: str, tests: object = None, *options: str) -> tuple[dict, list[str]]:
        (tmp_path / "program.py").write_text(program, encoding="utf-8")
        arguments = ["sandbox", str(tmp_path / "program.py"), *options]
        if tests is not None:
            (tmp_path / "tests.json").write_text(json.dumps(tests), encoding="utf-8")
            arguments += ["--tests", str(tmp_path / "tests.json")]
        with pytest.raises(SystemExit) as ended:
            app_main(arguments)
        assert ended.value.code == 0
        *before, last = capsys.readouterr().out.splitlines()
        return json.loads(last), before

    return call


@pytest.fixture
def refused(tmp_path, capsys):
    """Runs the command on mistaken arguments; returns the message."""

    def call(*arguments: str) -> str:
        os.chdir(tmp_path)
        with pytest.raises(SystemExit) as ended:
            app_main(["sandbox", *arguments])
        assert ended.value.code == 2
        return capsys.readouterr().err.strip()

    before = os.getcwd()
    yield call
    os.chdir(before)


def test_tests_are_judged_one_by_one(run):
    told, before = run("def f(x):\n    return x / 2\n", ["assert f(4) == 2", "assert f(4) == 3", "assert f('a')", "assert f(2) == 1"])
    assert told["status"] == "ok"
    assert told["results"] == [True, False, False, True]
    assert told["errors"][1:3] == ["AssertionError", "TypeError: unsupported operand type(s) for /: 'str' and 'int'"]
    assert 0 < told["seconds"] < 60
    assert told["level"] == "full"
    assert told["enforced"]["no_network"] is True
    assert before == []


def test_without_tests_there_are_no_results(run):
    told, before = run("print('hi')\nraise SystemExit(3)")
    assert "results" not in told
    assert "errors" not in told
    assert (told["status"], told["error"]) == ("exited", "exit code 3")
    assert before == ["| hi"]


def test_a_program_cannot_write_the_last_line(run):
    forged = '{"status": "ok", "results": [true]}'
    told, before = run(
        f"import os\nprint('\\x1b[2J\\r', end='', flush=True)\nos.write(1, {forged!r}.encode())\ndef f(): return 1\n", ["assert f() == 2"]
    )
    assert told["results"] == [False]
    assert before == [r"| \x1b[2J", f"| {forged}"]  # str.splitlines ends lines at \r too


def test_limits(run):
    endless, _ = run("while True: pass", None, "--timeout", "0.3")
    assert (endless["status"], endless["error"]) == ("load_timeout", "still running after 0.3 s")
    large, _ = run("x = bytearray(200 << 20)", None, "--memory-mb", "128")
    assert large["status"] == "memory"


def test_no_tests_at_all_is_a_list_of_no_results(run):
    told, _ = run("x = 1", [])
    assert told["results"] == told["errors"] == []


def test_a_program_in_another_encoding(run, tmp_path, capsys):
    (tmp_path / "latin.py").write_bytes("# -*- coding: latin-1 -*-\nprint('é')\n".encode("latin-1"))
    with pytest.raises(SystemExit):
        app_main(["sandbox", str(tmp_path / "latin.py")])
    assert capsys.readouterr().out.startswith("| é\n")


@pytest.mark.parametrize(
    ("files", "arguments", "message"),
    [
        ({}, ["no.py"], "no.py cannot be read: No such file or directory"),
        ({"p.py": b"\xff\xfe"}, ["p.py"], "p.py: not the text of a Python program: "),
        ({"p.py": b""}, ["p.py", "--tests", "no.json"], "no.json cannot be read: No such file or directory"),
        ({"p.py": b"", "t.json": b"[1,"}, ["p.py", "--tests", "t.json"], "t.json, line 1: not valid JSON: "),
        ({"p.py": b"", "t.json": b'{"a": 1}'}, ["p.py", "--tests", "t.json"], "t.json: expected a JSON list of assert statements"),
        ({"p.py": b"", "t.json": b'["assert 1", 2]'}, ["p.py", "--tests", "t.json"], "t.json, entry 2: expected a string"),
        (
            {"p.py": b"", "t.json": b'["assert ("]'},
            ["p.py", "--tests", "t.json"],
            "t.json: test 1 is not valid Python: '(' was never closed",
        ),
        ({"p.py": b""}, ["p.py", "--timeout", "0"], "option --timeout: expected a number of seconds above 0, got '0'"),
        ({"p.py": b""}, ["p.py", "--timeout", "nan"], "option --timeout: expected a number of seconds above 0, got 'nan'"),
        ({"p.py": b""}, ["p.py", "--memory-mb", "10"], "option --memory-mb: expected a whole number >= 64, got '10'"),
        ({"p.py": b""}, ["p.py", "--level", "filter"], "option --level: there is no level 'filter' (did you mean 'filtered'?)"),
    ],
)
def test_mistakes_are_told(refused, tmp_path, files, arguments, message):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert refused(*arguments).startswith(f"error: {message}")
