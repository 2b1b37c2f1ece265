"""The coding environment: prompts, feedback, contract, data (tasks.md section 2)."""

import copy
import json
import pickle
import sys
import warnings
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pettingzoo.test import parallel_api_test

from collm.config.load import resolve
from collm.config.tasks import CoopHETask, HumanEvalTask, MbppTask
from collm.envs.check import check_observations, global_info, joint_flag, shared_reward, step_details, step_metrics
from collm.envs.coding import testing
from collm.envs.coding.env import CodingEnv
from collm.envs.coding.problem import read_problem
from collm.envs.coding.testing import after_one_another
from collm.envs.data import all_rows, load_rows
from collm.envs.score import Scorer
from collm.errors import ConfigError, DataError, EnvContractError, SandboxError
from collm.sandbox import TestResult, TestStatus

ROW = {
    "task_id": "t/0",
    "prompt": 'from typing import List\n\n\ndef double(values: List[int]) -> List[int]:\n    """Double the numbers."""\n',
    "entry_point": "double",
    "test": "def check(candidate):\n"
    "    assert candidate([1, 2]) == [2, 4]\n"
    "    assert candidate([]) == []\n"
    "    assert candidate([-3]) == [-6], 'told'\n",
}
AUX = "def aux(values):\n    return [v for v in values]"
MAIN = "def double(values: List[int]):\n    return [2 * v for v in aux(values)]"
WRONG = "def double(values):\n    return [v * v for v in aux(values)]"
NOTHING = {"agent_0": "", "agent_1": ""}


def make(n=2, history="full", row=ROW, task=CoopHETask, **settings):
    env = CodingEnv(task(**settings), n, history)
    return env, env.reset(seed=0, options={"task": row})[0]


def step(env, *responses):
    return env.step(dict(zip(env.agents, responses, strict=True)))


class Untested(CodingEnv):
    """Runs nothing: every test fails."""

    def _run(self, source):
        return tuple(TestResult(False, TestStatus.FAILED, "AssertionError", 0.0) for _ in self._playing.shown)


def test_first_prompts():
    _, observations = make()
    assert observations["agent_0"] == (
        "Problem:\n"
        f"{ROW['prompt'].strip()}\n\n"
        "You are agent 1 of 2. Write only a helper for it: def aux(...), which returns a value.\n"
        "Agent 2 writes double(values) and may call aux, as a rule with the same arguments. You do not see each other's code.\n"
        "Answer with Python code only."
    )
    assert observations["agent_1"].endswith(
        "You are agent 2 of 2. Write only the function double(values).\n"
        "Agent 1 writes a helper aux(...), as a rule with the same arguments: call it and work on with what it returns. "
        "You do not see each other's code.\n"
        "Answer with Python code only."
    )
    assert make(1)[1]["agent_0"].endswith("Write the function double(values).\nAnswer with Python code only.")
    _, three = make(3, helpers=["left", "right"])
    assert "Agent 3 writes double(values) and may call right" in three["agent_1"]
    assert "Agent 1 writes a helper left(...); agent 2 writes a helper right(...), as a rule" in three["agent_2"]


def test_a_right_program_solves_and_details_show_it():
    env, _ = make()
    observations, rewards, terminations, truncations, infos = step(env, AUX, MAIN)
    assert rewards == {"agent_0": 4.0, "agent_1": 4.0}
    assert terminations == {"agent_0": True, "agent_1": True}
    assert truncations == {"agent_0": False, "agent_1": False}
    assert observations["agent_0"] == "Finished after turn 1 of 2. Score 4.00 of 4.0."
    assert infos["agent_1"]["metrics"] == {
        "pass_rate": 1.0,
        "passed_all": 1.0,
        "aux_defined": 1.0,
        "main_defined": 1.0,
        "syntax_ok": 1.0,
        "calls_aux": 1.0,
        "wrapper": 0.0,
        "aux_ignored": 0.0,
        "tests": 3.0,
        "timeouts": 0.0,
    }
    assert step_details(infos) == {
        "program": f"from typing import List\n\n{AUX}\n\n{MAIN}\n",
        "tests": [
            {"test": "assert double([1, 2]) == [2, 4]", "passed": True, "error": ""},
            {"test": "assert double([]) == []", "passed": True, "error": ""},
            {"test": "assert double([-3]) == [-6]", "passed": True, "error": ""},
        ],
    }


def test_feedback_level():
    env, _ = make()
    observations, rewards, *_ = step(env, AUX, WRONG)
    assert rewards["agent_0"] == pytest.approx(1.5 + 1 / 3 + 1.5)
    shared = (
        "Turn 2 of 2. Score 3.33 of 4.0.\n"
        "aux: defined.\n"
        "double: defined.\n"
        "Syntax: OK.\n"
        "Tests: 1 of 3 passed.\n"
        "Failed: assert double([1, 2]) == [2, 4] (AssertionError)\n"
    )
    assert observations["agent_0"] == f"{shared}Revise aux: answer with all of its code again."
    assert observations["agent_1"] == f"{shared}aux is called.\nRevise double: answer with all of its code again."
    _, rewards, terminations, truncations, _ = step(env, AUX, MAIN)
    assert (rewards["agent_0"], terminations["agent_0"], truncations["agent_0"]) == (4.0, True, False)


@pytest.mark.parametrize(
    ("aux", "main", "lines"),
    [
        ("", MAIN, ["aux: not found; write def aux( at the start of a line.", "double: defined.", "Syntax: OK.", "Tests: 0 of 3 passed."]),
        ("def aux(v):\n    pass", "", ["aux: returns no value.", "double: not found; write def double( at the start of a line."]),
        (AUX, "", ["aux: defined.", "Tests: not run."]),
        (AUX, "def double(v):\n    return v +", ["Syntax: error in double, line 2, column 15: invalid syntax.", "Tests: not run."]),
        (AUX, "def double(v):\n    return aux(v)", ["aux is merely wrapped; work on with what it returns."]),
        (AUX, "def double(v):\n    aux(v)\n    return []", ["aux is called and its result never used."]),
        (AUX, "def double(v):\n    return []", ["aux is not called."]),
        (AUX, "def double(v):\n    return nowhere", ["Failed: assert double([1, 2]) == [2, 4] (NameError: name 'nowhere' is not defined)"]),
        (AUX, "def double(v=1/0):\n    return v", ["Tests: 0 of 3 passed."]),
    ],
)  # fmt: skip
def test_feedback_level_tells_what_is_wrong(aux, main, lines):
    env, _ = make()
    observations, *_ = step(env, aux, main)
    told = observations["agent_1"].split("\n")
    assert [line for line in told if line in lines] == lines
    assert aux not in observations["agent_1"] or not aux
    assert "aux is" not in observations["agent_0"]


def test_sandbox_slice_counts_the_asserts_looked_at():
    for size, failing in ((1, 1), (2, 1), (3, 2), (0, 2)):
        env, _ = make(sandbox_slice=size)
        observations, *_ = step(env, AUX, WRONG)
        assert observations["agent_0"].count("Failed: ") == failing


def test_the_other_feedback_modes():
    env, _ = make(feedback="passed")
    observations, *_ = step(env, AUX, WRONG)
    assert observations["agent_0"] == "Turn 2 of 2. 1 of 3 tests passed. Revise aux: answer with all of its code again."
    env, _ = make(feedback="plain")
    observations, *_ = step(env, AUX, WRONG)
    assert observations["agent_1"] == "Turn 2 of 2. Revise double: answer with all of its code again."


def test_long_tests_and_errors_are_cut():
    row = {**ROW, "test": f"def check(candidate):\n    assert candidate({list(range(500))}) == []"}
    env, _ = make(row=row)
    observations, *_ = step(env, AUX, f"def double(v):\n    raise ValueError({'x' * 1000!r})\n    return v")
    (line,) = [line for line in observations["agent_0"].split("\n") if line.startswith("Failed")]
    assert len(line) < 600


def test_history_last_repeats_prompt_and_own_response():
    env, first = make(history="last")
    observations, *_ = step(env, AUX, WRONG)
    text = observations["agent_0"]
    assert text.index("Turn 2 of 2.") < text.index(first["agent_0"]) < text.index(f"Your previous response:\n{AUX}")
    assert WRONG not in text


def test_imports_and_helper_functions_of_the_prompt_are_at_hand():
    row = {
        "task_id": "t/1",
        "prompt": "import math\n\ndef poly(xs, x):\n    return sum(c * math.pow(x, i) for i, c in enumerate(xs))\n\n"
        "def zero(xs):\n    '''Find x such that poly(xs, x) = 0.'''\n",
        "entry_point": "zero",
        "test": "def check(candidate):\n    assert math.fabs(poly([4, 2], candidate([4, 2]))) < 1e-6",
    }
    env, _ = make(1, row=row)
    *_, infos = step(env, "def zero(xs):\n    x = -xs[0] / xs[1]\n    assert poly(xs, x) == 0\n    return x")
    assert step_metrics(infos)["passed_all"] == 1.0


def test_a_program_meets_every_test_afresh_under_paper_and_keeps_its_state_under_comlrl():
    counting = "def double(v):\n    double.n = getattr(double, 'n', 0) + 1\n    return [2 * x for x in v] if double.n == 1 else None"
    for profile, passed in (("paper", 3), ("comlrl", 1)):
        env, _ = make(1, profile=profile)
        *_, infos = step(env, counting)
        assert step_metrics(infos)["pass_rate"] == pytest.approx(passed / 3)
    tests = after_one_another(("assert f(1)", "for x in y:\n    assert x"))
    assert tests == ("assert f(1)", "try:\n    assert f(1)\nexcept BaseException:\n    pass\nfor x in y:\n    assert x")


def test_after_three_timeouts_the_rest_fails():
    row = {**ROW, "test": "def check(candidate):\n" + "".join(f"    assert candidate([{i}]) == [{2 * i}]\n" for i in range(6))}
    env, _ = make(1, row=row, test_seconds=0.3)
    *_, infos = step(env, "def double(v):\n    while v[0] < 4:\n        pass\n    return [2 * x for x in v]")
    metrics = step_metrics(infos)
    assert (metrics["timeouts"], metrics["pass_rate"]) == (3.0, 0.0)
    env, _ = make(1, row=row, test_seconds=0.3, max_timeouts=4)
    *_, infos = step(env, "def double(v):\n    while 0 < v[0] < 4:\n        pass\n    return [2 * x for x in v]")
    metrics = step_metrics(infos)
    assert (metrics["timeouts"], metrics["pass_rate"]) == (3.0, pytest.approx(0.5))


@pytest.mark.parametrize(
    "hostile",
    [
        "import os\n    os._exit(0)",
        "raise SystemExit(0)",
        "while True:\n        pass",
        "return type('E', (), {'__eq__': lambda s, o: True})()",
        "import builtins\n    builtins.AssertionError = None\n    return None",
        "return [0] * 10**10",
        "return double(v)",
        "import sys\n    sys.stdout.write('x' * 10**6)\n    raise BaseException",
    ],
)
def test_hostile_programs_earn_nothing(hostile):
    env, _ = make(1, test_seconds=0.5, max_timeouts=1)
    _, rewards, *_ = step(env, f"def double(v):\n    {hostile}\n    return 1")
    assert rewards["agent_0"] == pytest.approx(1.1)


def test_the_same_program_is_run_once(monkeypatch):
    env, _ = make()
    step(env, AUX, WRONG)
    env, _ = make()
    monkeypatch.setattr(testing, "_run", None)
    _, rewards, *_ = step(env, AUX, WRONG)
    assert rewards["agent_0"] == pytest.approx(10 / 3)


def test_results_with_a_timeout_are_not_kept(monkeypatch):
    runs = []

    def run(source, problem, rules):
        runs.append(source)
        return (TestResult(False, TestStatus.TIMEOUT, "no result after 8 s", 8.0),) * 3

    monkeypatch.setattr(testing, "_run", run)
    for _ in range(2):
        env, _ = make()
        step(env, AUX, MAIN.replace("2 *", "3 *"))
    assert len(runs) == 2


def test_the_level_of_isolation_is_the_one_asked_for(monkeypatch):
    asked = []

    def refuse(level):
        asked.append(str(level))
        raise SandboxError("not here")

    monkeypatch.setattr(testing, "shared_sandbox", refuse)
    for level in ("full", "rlimits"):
        env, _ = make(sandbox=level)
        with pytest.raises(SandboxError, match="not here"):
            step(env, AUX, f"{MAIN}  # {level}")
    assert asked == ["full", "rlimits"]


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("feedback", ["level", "passed", "plain"])
def test_every_variant_keeps_the_contract(n, feedback):
    env = Untested(CoopHETask(feedback=feedback, turns=3), n, "last")
    observations, _ = env.reset(seed=0)
    for turn in range(3):
        assert list(check_observations(observations, env.possible_agents)) == env.possible_agents
        assert all(env.observation_space(a).contains(text) for a, text in observations.items())
        responses = [f"def {name}(x):\n    return {turn}" for name in (*env._rules.helpers, env._playing.entry_point)]
        observations, rewards, terminations, truncations, infos = step(env, *responses)
        assert shared_reward(rewards) <= (4.0 if n > 1 else 2.1)
        assert step_metrics(infos)["main_defined"] == 1
        json.dumps(step_details(infos))
        assert not joint_flag("terminations", terminations)
        assert joint_flag("truncations", truncations) == (turn == 2)
        assert global_info(env.state()).features.shape == (3,)


def test_pettingzoo_api():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for task, n in ((CoopHETask(), 1), (HumanEvalTask(), 2), (MbppTask(), 3)):
            parallel_api_test(CodingEnv(task, n, "last"), num_cycles=10)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=300), st.text(max_size=300), st.sampled_from(["full", "last"]))
def test_no_text_upsets_an_episode(first, second, history):
    env = Untested(CoopHETask(), 2, history)
    env.reset(seed=1)
    for _ in range(2):
        observations, rewards, *_ = step(env, first, f"def solve(values):\n    return 1\n{second}")
        assert 0 <= shared_reward(rewards) <= 1.5
    assert observations["agent_0"].startswith("Finished after turn 2 of 2.")


def test_mangled_text_in_the_real_sandbox():
    env, _ = make(1)
    for text in (
        "def double(v):\n    return '\ud800'",
        "def double(v):\n    return (" + "-" * 3000 + "1)",
        "def double(v):\n    return '\0'",
    ):
        env.reset(options={"task": ROW})
        _, rewards, *_ = step(env, text)
        assert rewards["agent_0"] in (0.6, 1.1)


def test_copies_and_pickles_go_on_alike_and_apart():
    env, _ = make(history="last")
    step(env, AUX, WRONG)
    twin, loaded = copy.deepcopy(env), pickle.loads(pickle.dumps(env))
    assert step(env, AUX, MAIN)[1]["agent_0"] == 4.0
    assert step(twin, AUX, WRONG) == step(loaded, AUX, WRONG)
    assert [twin.reset()[0] for _ in range(5)] == [loaded.reset()[0] for _ in range(5)]


def test_without_a_row_the_seed_draws_a_built_in_problem():
    def draw(seed):
        return CodingEnv(CoopHETask(), 2, "full").reset(seed=seed)[0]["agent_0"]

    assert [draw(s) for s in range(20)] == [draw(s) for s in range(20)]
    assert len({draw(s) for s in range(40)}) > 20


def test_misuse_is_named():
    env = CodingEnv(CoopHETask(), 2, "full")
    with pytest.raises(EnvContractError, match="CoopHE: step was called with no episode running"):
        env.step(NOTHING)
    with pytest.raises(DataError, match="'aux' is a helper's name too"):
        env.reset(options={"task": {**ROW, "prompt": "def aux(x):\n    '''?'''", "entry_point": "aux"}})
    with pytest.raises(ConfigError, match="task.helpers"):
        CodingEnv(CoopHETask(helpers=[]), 2)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("task.feedback=expert", "expert.base_url and expert.model is not given"),
        ("task.helpers=[aux]", None),
        ("task.helpers=[aux, aux2]", "task.helpers names 2 functions for 2 agents"),
        ("task.helpers=['not a name']", "'not a name' is not a function's name"),
        ("task.helpers=[aux, aux]", "twice"),
        ("task.sandbox=none", "expected one of full, filtered, rlimits"),
    ],
)
def test_settings_that_do_not_fit_are_named(override, message):
    if message is None:
        assert resolve("coophe", overrides=[override]).task.helpers == ["aux"]
        return
    with pytest.raises(ConfigError, match=message):
        resolve("coophe", overrides=[override])


MBPP_ROW = {
    "task_id": 601,
    "text": "Write a function to double.",
    "code": "import math\ndef inner(x):\n    return x\ndef double(x, *, by=2):\n    return inner(x) * by",
    "test_list": ["assert double(2) == 4", "assert math.isclose(double(1.5), 3.0)"],
    "test_setup_code": "import math",
    "challenge_test_list": [],
}


def test_rows_of_mbpp():
    problem = read_problem(MBPP_ROW)
    assert (problem.entry_point, problem.signature) == ("double", "double(x, *, by=2)")
    assert problem.prompt == "\n".join(["Write a function to double.", "It has to pass these tests:", *MBPP_ROW["test_list"]])
    env, _ = make(row=MBPP_ROW, task=MbppTask)
    assert step(env, "def aux(x):\n    return x", "def double(x):\n    return aux(x) * 2")[1]["agent_0"] == 4.0
    sanitized = {"prompt": "Double.", "task_id": 2, "test_imports": ["import math"], "test_list": MBPP_ROW["test_list"]}
    problem = read_problem(sanitized)
    assert (problem.entry_point, problem.signature, problem.suite.preamble) == ("double", "double(...)", "import math")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": None}, "field 'prompt': expected text, got None"),
        ({"prompt": " "}, "field 'prompt': is empty"),
        ({"prompt": "def double(x:\n"}, "field 'prompt': is not Python: .*line 1"),
        ({"prompt": "def other(x):\n    'doc'"}, "field 'prompt': defines no double, which field 'entry_point' names"),
        ({"entry_point": "double(x)"}, "field 'entry_point': 'double.x.' is not a function's name"),
        ({"test": "assert double(1)"}, "field 'test': defines no check"),
        ({"test": 3}, "field 'test': expected text, got 3 .int."),
        ({"test_list": []}, "field 'text' is missing|field 'test_list': is empty"),
        ({"test_list": "assert 1", "text": "x"}, "field 'test_list': expected a list of asserts as texts, got assert 1"),
        ({"test_list": ["assert f(1) == g(1)"], "text": "x"}, "the tests call f, g; give a reference in field 'code'"),
    ],
)
def test_a_bad_row_is_named(change, message, tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text(f"{json.dumps(ROW)}\n{json.dumps({**ROW, **change})}\n", encoding="utf-8")
    with pytest.raises(DataError, match=rf"rows.jsonl, line 2.*{message}"):
        load_rows(CoopHETask(data=str(file), train_rows="0:1", test_rows="1:2"))
    with pytest.raises(DataError, match="expected a row"):
        make(row="x")


def test_a_prompt_may_be_english_or_end_with_the_def_line():
    assert read_problem({**ROW, "prompt": "Double the numbers."}).signature == "double(...)"
    assert read_problem({**ROW, "prompt": "import re\ndef double(a, b=1):\n"}).signature == "double(a, b=1)"


def test_splits(shared):
    data = str(shared / "data" / "coophumaneval" / "CoopHumanEval.jsonl")
    ids = [f"CoopHumanEval/{i}" for i in range(82)]
    for profile, train, test in (("paper", ids[:66], ids[66:]), ("comlrl", ids[16:], ids[:16])):
        found = load_rows(CoopHETask(profile=profile, data=data))
        assert [[row["task_id"] for row in part] for part in found] == [train, test]
    train, test = load_rows(HumanEvalTask(data=str(shared / "data" / "humaneval" / "HumanEval.jsonl")))
    assert (len(train), len(test), test[0]["task_id"]) == (132, 32, "HumanEval/132")
    for task in (CoopHETask(), HumanEvalTask(), MbppTask()):
        assert [len(part) for part in load_rows(task)] == [32, 8]


def test_mbpp_joins_the_splits_of_the_hub_in_order(monkeypatch):
    sizes = {"train": 374, "test": 500, "validation": 90, "prompt": 10}
    first = {"prompt": 1, "test": 11, "validation": 511, "train": 601}
    loaded = {split: [{**MBPP_ROW, "task_id": first[split] + i} for i in range(size)] for split, size in sizes.items()}
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=lambda name: loaded))
    rows = all_rows(MbppTask(data="mbpp"))
    assert [row["task_id"] for row in rows] == list(range(1, 975))
    train, test = load_rows(MbppTask(data="mbpp"))
    assert [row["task_id"] for row in (train[0], train[-1], test[0], test[-1])] == [601, 974, 11, 510]
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=lambda name: {"test": loaded["prompt"]}))
    assert len(all_rows(HumanEvalTask(data="openai_humaneval"))) == 10


def test_score_takes_an_id_or_a_whole_problem():
    scorer = Scorer(CoopHETask())
    assert scorer.score({"task": ROW, "responses": [AUX, MAIN]})["reward"] == 4.0
    assert scorer.score({"task": {"task_id": "collm/0"}, "responses": ["", ""]})["reward"] == 0.0
    with pytest.raises(DataError, match="no row has task_id"):
        scorer.score({"task": {"task_id": "collm/999"}, "responses": ["", ""]})


HANGS_ON_0 = "def f(x):\n    while x == 0:\n        pass\n    y = aux(x)\n    return y + 0"
IDENTITY = {
    "task_id": "t/1",
    "prompt": 'def f(x):\n    """Return x."""\n',
    "entry_point": "f",
    "test": "def check(candidate):\n" + "".join(f"    assert candidate({x}) == {x}\n" for x in (0, 1, 2, 3)),
}


@pytest.mark.parametrize("profile", ["paper", "comlrl"])
def test_a_test_that_hangs_spoils_no_other(profile):
    env, _ = make(row=IDENTITY, profile=profile, test_seconds=0.5)
    *_, infos = step(env, "def aux(x):\n    return x", HANGS_ON_0)
    assert infos["agent_0"]["metrics"]["pass_rate"] == 0.75
    assert infos["agent_0"]["metrics"]["timeouts"] == 1


def test_an_entry_point_named_like_a_builtin_is_the_program_s():
    row = {
        "task_id": 1,
        "text": "Return the sum plus one.",
        "test_list": ["assert sum([1, 2]) == 4"],
        "code": "def sum(x):\n    return 4\n",
    }
    for body, rate in (("return len(aux(x)) + 2", 1.0), ("return len(aux(x)) + 1", 0.0)):
        env, _ = make(row=row, task=MbppTask)
        *_, infos = step(env, "def aux(x):\n    return x", f"def sum(x):\n    {body}")
        assert infos["agent_0"]["metrics"]["pass_rate"] == rate
