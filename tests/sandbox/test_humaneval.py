"""The sandbox on real problems: right solutions pass every test, wrong ones do not."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from collm.envs.coding.asserts import CANDIDATE, split_check
from collm.sandbox import Job, Limits, TestStatus

pytestmark = pytest.mark.slow


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def helpers(row: dict) -> str:
    """What the prompt gives beside the function to be written: imports, and the functions that some tests call."""
    body = ast.parse(row["prompt"]).body
    return "\n".join(ast.unparse(node) for node in body if not (isinstance(node, ast.FunctionDef) and node.name == row["entry_point"]))


def job(row: dict, program: str) -> Job:
    suite = split_check(row["test"], helpers(row))
    return Job(program, suite.asserts, Limits(seconds=30.0), preamble=suite.preamble, bind={CANDIDATE: row["entry_point"]})


@pytest.fixture
def humaneval(shared) -> list[dict]:
    return rows(shared / "data" / "humaneval" / "HumanEval.jsonl")


@pytest.fixture
def coop(shared) -> list[dict]:
    return rows(shared / "data" / "coophumaneval" / "CoopHumanEval.jsonl")


def test_every_canonical_solution_passes(box, humaneval):
    assert len(humaneval) == 164
    verdicts = box.run_many([job(row, row["prompt"] + row["canonical_solution"]) for row in humaneval])
    assert {row["task_id"]: verdict for row, verdict in zip(humaneval, verdicts, strict=True) if not verdict.all_passed} == {}


def test_whole_checks_pass_as_one_test(box, humaneval):
    """A test may be any code: here the source of `check` is the preamble, and the test calls it."""
    jobs = [
        Job(
            row["prompt"] + row["canonical_solution"],
            (f"check({CANDIDATE})",),
            Limits(seconds=60.0),
            preamble=f"{helpers(row)}\n{row['test']}",
            bind={CANDIDATE: row["entry_point"]},
        )
        for row in humaneval
    ]
    verdicts = box.run_many(jobs)
    assert {row["task_id"]: verdict for row, verdict in zip(humaneval, verdicts, strict=True) if not verdict.all_passed} == {}


def test_wrong_solutions_fail(box, humaneval):
    bodies = ["return None", "return 1", "raise AssertionError", "return (yield)", "pass"]
    some = humaneval[::2]
    verdicts = box.run_many([job(row, f"{row['prompt']}\n    {bodies[n % len(bodies)]}\n") for n, row in enumerate(some)])
    assert [row["task_id"] for row, verdict in zip(some, verdicts, strict=True) if verdict.all_passed] == []
    assert {verdict.status for verdict in verdicts} == {"ok"}
    # An assertion that the program raises is an error of the program, not a verdict of the test.
    assert {result.status for verdict in verdicts[2 :: len(bodies)] for result in verdict.results} == {TestStatus.ERROR}


def test_reference_solutions_pass_as_many_asserts_as_they_should(box, coop):
    verdicts = box.run_many([job(row, row["reference_solution"]) for row in coop])
    told = {row["index"]: verdict.passed for row, verdict in zip(coop, verdicts, strict=True)}
    assert told == {row["index"]: row["reference_passes"] for row in coop}
    assert [len(verdict.results) for verdict in verdicts] == [row["n_asserts"] for row in coop]
    failing = {
        test
        for row, verdict in zip(coop, verdicts, strict=True)
        for test, result in zip(job(row, "").tests, verdict.results, strict=True)
        if not result.passed
    }
    assert failing == {ast.unparse(ast.parse(test)) for row in coop for test in row["inconsistent_asserts"]}
