"""Levels and rewards (tasks.md section 2), held to the recorded rewards of the released code."""

import json

import pytest

from collm.config.tasks import CoopHETask, HumanEvalTask
from collm.envs.coding.program import join_responses
from collm.envs.coding.rules import resolve_rules
from collm.envs.coding.scoring import score_program
from collm.envs.score import Scorer
from collm.errors import ConfigError
from collm.sandbox import TestResult, TestStatus

AUX = "def aux(x):\n    return x"
MAIN = "def f(x):\n    y = aux(x)\n    return y + 1"


def score(responses, passed=0, tests=4, n=None, **settings):
    n = n or len(responses)
    rules = resolve_rules(CoopHETask(**settings), n)
    program = join_responses(responses, [*rules.helpers, "f"])
    results = [TestResult(i < passed, TestStatus.PASSED if i < passed else TestStatus.FAILED, "", 0.0) for i in range(tests)]
    return score_program(program, results if program.error is None and program.main.defined else [], tests, rules)


@pytest.mark.parametrize(
    ("aux", "main", "passed", "reward"),
    [
        ("none", "None", 0, 0.0),
        (AUX, "None", 0, 0.4),
        ("none", MAIN, 0, 1.1),
        ("def aux(x:\n    return x", MAIN, 0, 1.0),
        (AUX, MAIN, 0, 1.5),
        (AUX, MAIN, 1, 1.5 + 0.25 + 1.5),
        (AUX, MAIN, 4, 4.0),
        (AUX, "def f(x):\n    return aux(x)", 4, 3.0),
        (AUX, "def f(x):\n    aux(x)\n    return x", 4, 3.5),
        (AUX, "def f(x):\n    return x", 4, 2.5),
        ("def aux(x):\n    pass", MAIN, 4, 3.6),
    ],
)
def test_levels(aux, main, passed, reward):
    assert score([aux, main], passed).reward == pytest.approx(reward)


def test_one_agent_and_three():
    assert score(["def f(x):\n    return x"], 4).reward == pytest.approx(2.1)
    assert score(["def aux(x):\n    return x\n\ndef f(x):\n    return aux(x)"], 4).reward == pytest.approx(2.1)
    aux2 = "def aux2(x):\n    return x"
    assert score([AUX, aux2, "def f(x):\n    return aux(x) + aux2(x)"], 4).reward == pytest.approx(4.0)
    assert score([AUX, aux2, MAIN], 4).reward == pytest.approx(3.75)
    assert score([AUX, "", MAIN], 4).reward == pytest.approx(3.55)
    assert score([AUX, aux2, "def f(x):\n    aux2(x)\n    return aux(x)"], 4).reward == pytest.approx(3.75)
    assert score([AUX, aux2, "def f(x):\n    return aux2(x)"], 4).reward == pytest.approx(2.75)


def test_every_number_is_a_setting():
    numbers = {
        "helper_reward": 1,
        "main_reward": 10,
        "syntax_reward": 100,
        "tests_reward": 1000,
        "call_reward": 1e4,
        "own_work_reward": 1e5,
        "ignored_penalty": 1e6,
    }
    assert score([AUX, MAIN], 4, **numbers).reward == 111111
    assert score([AUX, "def f(x):\n    aux(x)\n    return x"], 2, **numbers).reward == 110611 - 1e6
    assert resolve_rules(CoopHETask(**numbers), 2).max_reward == 111111
    assert resolve_rules(CoopHETask(**numbers), 1).max_reward == 1110
    with pytest.raises(ConfigError, match="must be above 0"):
        resolve_rules(CoopHETask(main_reward=0, syntax_reward=0, tests_reward=0), 1)


def test_profiles_and_what_wins_over_them():
    def decided(**settings):
        rules = resolve_rules(CoopHETask(**settings), 2)
        return rules.keep_functions, rules.response_imports, rules.test_seconds, rules.fresh_program

    assert decided() == ("all", True, 8.0, True)
    assert decided(profile="comlrl") == ("named", False, 10.0, False)
    own = {"keep_functions": "all", "response_imports": True, "test_seconds": 1, "fresh_program": True}
    assert decided(profile="comlrl", **own) == ("all", True, 1, True)
    assert [round(resolve_rules(CoopHETask(), n).solved_above, 9) for n in (1, 2, 3)] == [1.9, 3.8, 3.8]
    assert resolve_rules(CoopHETask(solved_above=3.0), 2).solved_above == 3.0
    assert resolve_rules(CoopHETask(), 4).helpers == ("aux", "aux2", "aux3")
    assert resolve_rules(CoopHETask(helpers=["left", "right"]), 3).helpers == ("left", "right")
    with pytest.raises(ConfigError, match="task.helpers names 1 functions for 3 agents"):
        resolve_rules(CoopHETask(helpers=["left"]), 3)
    with pytest.raises(ConfigError, match="at least one agent"):
        resolve_rules(CoopHETask(), 0)


def test_comlrl_reproduces_every_recorded_row(shared):
    data = shared / "data" / "coophumaneval" / "CoopHumanEval.jsonl"
    problems = [json.loads(line) for line in data.read_text(encoding="utf-8").splitlines()]
    rows = [json.loads(line) for line in (shared / "oracles" / "coophe.public.jsonl").read_text(encoding="utf-8").splitlines()]
    scorer = Scorer(CoopHETask(profile="comlrl", data=str(data)))
    names = {"aux_defined": "aux_defined", "main_defined": "main_defined", "syntax_ok": "syntax_ok", "calls_aux": "uses_aux"}
    names |= {"wrapper": "wrapper", "aux_ignored": "ignored_aux"}
    for row in rows:
        result = scorer.score({"task": {"task_id": problems[row["index"]]["task_id"]}, "responses": [row["aux"], row["main"]]})
        assert result["reward"] == pytest.approx(row["rule_reward"], abs=1e-9), row
        assert result["terminated"] == (row["rule_reward"] > 3.8 + 1e-9)
        if row["defect"] is not None:
            continue
        assert result["reward"] == pytest.approx(row["reward"], abs=1e-9), row
        for ours, theirs in names.items():
            assert row[theirs] is None or result["metrics"][ours] == row[theirs], (ours, row)
        if row["total"]:
            assert result["metrics"]["pass_rate"] == pytest.approx(row["passed"] / row["total"])
    assert len(rows) == 64


@pytest.mark.slow
def test_every_reference_of_coophumaneval_passes_what_it_is_known_to_pass(shared):
    data = shared / "data" / "coophumaneval" / "CoopHumanEval.jsonl"
    scorer = Scorer(CoopHETask(data=str(data)))
    for line in data.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        main = f"from typing import List\n{row['reference_solution']}"
        result = scorer.score({"task": {"task_id": row["task_id"]}, "responses": [AUX, main]})
        metrics = result["metrics"]
        assert (metrics["tests"], metrics["pass_rate"] * metrics["tests"]) == (row["n_asserts"], pytest.approx(row["reference_passes"]))


@pytest.mark.slow
def test_every_canonical_solution_of_humaneval_reaches_the_maximum(shared):
    data = shared / "data" / "humaneval" / "HumanEval.jsonl"
    scorer = Scorer(HumanEvalTask(data=str(data)))
    rows = [json.loads(line) for line in data.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        result = scorer.score({"task": {"task_id": row["task_id"]}, "responses": [row["prompt"] + row["canonical_solution"]]})
        assert result["reward"] == pytest.approx(2.1), row["task_id"]
        assert result["terminated"]
    assert len(rows) == 164
