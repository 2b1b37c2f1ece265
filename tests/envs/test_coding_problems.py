"""The built-in coding problems and the demonstrations on them."""

import json
import random
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))

from tiny_models import demos_coding  # noqa: E402
from tiny_models.demos_coding import coding_demonstrations, draw_setting, play  # noqa: E402
from tiny_models.demos_coding_family import AGGREGATES, HELD_OUT, Composition, compositions  # noqa: E402

from collm.config.tasks import CoopHETask, HumanEvalTask, MbppTask  # noqa: E402
from collm.envs.coding.env import CodingEnv  # noqa: E402
from collm.envs.coding.problem import read_problem  # noqa: E402
from collm.envs.coding.rows import built_in_mbpp_rows, built_in_rows  # noqa: E402

ROWS = built_in_rows()
WRONG = ("    return None", "    return values", "    return []")


def reward(task, row, *responses):
    env = CodingEnv(task, len(responses))
    env.reset(seed=0, options={"task": row})
    _, rewards, _, _, infos = env.step(dict(zip(env.agents, responses, strict=True)))
    return rewards["agent_0"], infos["agent_0"]["metrics"]["pass_rate"]


def test_there_are_enough_and_each_is_told_once():
    assert len(ROWS) == 64
    assert [row["level"] for row in ROWS] == [1] * 40 + [2] * 14 + [3] * 10
    assert len({row["prompt"] for row in ROWS}) == len({row["task_id"] for row in ROWS}) == 64
    for row in ROWS:
        assert 5 <= len(read_problem(row).shown) <= 8


EVERY = pytest.mark.parametrize("every", [6, pytest.param(1, marks=pytest.mark.slow)])
"""Sixth row, or all of them: each test of a program is a process in the sandbox."""


@EVERY
def test_every_reference_reaches_the_maximum(every):
    for row in ROWS[::every]:
        assert reward(CoopHETask(), row, row["reference_aux"], row["reference_main"]) == (4.0, 1.0), row["task_id"]


@EVERY
def test_an_idle_helper_fails(every):
    for row in ROWS[::every]:
        for body in WRONG[::every]:
            idle = f"def aux(values, *others):\n{body}"
            assert reward(CoopHETask(), row, idle, row["reference_main"])[1] < 1, (row["task_id"], body)


def test_mbpp_has_the_same_problems_in_its_layout():
    rows = built_in_mbpp_rows()
    for row, original in list(zip(rows, ROWS, strict=True))[::9]:
        assert set(row) == {"task_id", "text", "code", "test_list", "test_setup_code", "level"}
        assert len(row["test_list"]) == 3
        problem = read_problem(row)
        assert problem.entry_point == original["entry_point"]
        assert reward(MbppTask(), row, original["reference_aux"], original["reference_main"])[0] == 4.0
    assert ">>>" not in json.dumps(rows)
    assert reward(HumanEvalTask(), ROWS[50], ROWS[50]["reference_aux"], ROWS[50]["reference_main"])[0] == 4.0


def test_the_file_is_what_its_script_makes():
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "make_coding_problems.py"), "--check"], capture_output=True, text=True, cwd=SCRIPTS, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_held_out_rows_combine_parts_that_all_occur_in_training():
    sentences = {c.sentence: c for c in [*compositions(), *HELD_OUT]}
    found = [sentences[read_problem(row).prompt.split('"""')[1]] for row in ROWS[:40]]
    train, held_out = found[:32], found[32:]
    assert tuple(held_out) == HELD_OUT
    assert not set(train) & set(HELD_OUT)
    for part in ("chosen", "change", "result"):
        assert {getattr(c, part) for c in held_out} <= {getattr(c, part) for c in train}


def test_the_family_by_hand():
    c = Composition("multiples of 3", "squares", "sum")
    assert c.sentence == "Return the sum of the squares of the multiples of 3 in values."
    assert c.value([3, 4, -6, 0]) == 45
    assert Composition("numbers below 2", "", "text").value([5, 1, -7]) == "1,-7"
    assert len(AGGREGATES) == 8
    assert len(list(compositions())) == len(set(compositions()))


def test_demonstrations_are_reproducible_varied_and_never_show_a_held_out_problem():
    dialogues = coding_demonstrations(random.Random(3), 150)
    assert dialogues == coding_demonstrations(random.Random(3), 150)
    text = "\n".join(part for dialogue in dialogues for turn in dialogue for part in turn)
    assert not any(c.sentence in text for c in HELD_OUT)
    responses = [response for dialogue in dialogues for _, response in dialogue]
    assert len(set(responses)) > 150
    assert max(map(len, responses)) < 200
    assert {len(dialogue) for dialogue in dialogues} == {1, 2, 3}
    for told in ("Syntax: error in", "aux is merely wrapped", "tests passed", "It has to pass these tests", "Write the function solve"):
        assert told in text


@pytest.mark.parametrize(("careful", "low", "high"), [(0.0, 1.5, 2.3), (1.0, 4.0, 4.0)])
def test_demonstrations_leave_room_to_learn(careful, low, high):
    rng, pool = random.Random(5), tuple(compositions())
    settings = [setting for setting in (draw_setting(rng, pool) for _ in range(250)) if setting.n_agents == 2]
    first = [play(setting, rng, careful)[1][0] for setting in settings]
    assert low <= statistics.mean(first) <= high
    assert careful or len({round(value, 2) for value in first}) > 8


def test_scripted_programs_are_judged_as_in_the_sandbox(monkeypatch):
    rng, pool = random.Random(8), tuple(compositions())
    settings = [setting for setting in (draw_setting(rng, pool) for _ in range(40)) if setting.n_agents == 2][:15]
    state = rng.getstate()
    trusted = [play(setting, rng, 0.3) for setting in settings]
    rng.setstate(state)
    monkeypatch.setattr(demos_coding, "_TrustingEnv", CodingEnv)
    assert [play(setting, rng, 0.3) for setting in settings] == trusted
