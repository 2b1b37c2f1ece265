"""The pages of the coding tasks: sample episodes print what they say, rows score, commands resolve, tables are the code's."""

import contextlib
import io
import json
import re
import shlex
from pathlib import Path

import pytest

from collm.config.load import resolve, resolve_task
from collm.config.tasks import CoopHETask, HumanEvalTask, MbppTask
from collm.envs.coding.rows import built_in_rows
from collm.envs.coding.rules import PROFILES, resolve_rules
from collm.envs.score import Scorer

FOLDER = Path(__file__).parents[2] / "docs" / "tasks"
TASKS = {"coophe": CoopHETask, "humaneval": HumanEvalTask, "mbpp": MbppTask}
PAGES = {name: (FOLDER / f"{name}.md").read_text(encoding="utf-8") for name in TASKS}


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGES[page], flags=re.M | re.S)


@pytest.mark.parametrize("page", PAGES)
def test_the_sample_episode_prints_what_the_page_shows(page):
    (program,), (shown,) = blocks(page, "python"), blocks(page, "text")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(program, f"{page}.md", "exec"), {})
    assert printed.getvalue() == shown
    assert "solved True" in shown


@pytest.mark.parametrize("page", PAGES)
def test_every_command_resolves(page):
    commands = [shlex.split(line, comments=True)[1:] for block in blocks(page, "sh") for line in block.splitlines()]
    assert {args[0] for args in commands} == {"train", "score"}
    for verb, task, *rest in commands:
        overrides = [word for word in rest if "=" in word]
        if verb == "score":
            assert resolve_task(task, overrides=overrides).name == page
        else:
            assert resolve(task, preset="paper" if "paper" in rest else "tiny", overrides=overrides).task.name == page


@pytest.mark.parametrize("page", PAGES)
def test_the_row_shown_scores_the_most(page):
    (row,) = (json.loads(block) for block in blocks(page, "json"))
    assert Scorer(TASKS[page]()).score(row)["reward"] == (2.1 if page == "humaneval" else 4.0)


@pytest.mark.parametrize("method", ["collm-cc", "magrpo"])
@pytest.mark.parametrize("size", ["tiny", "paper"])
@pytest.mark.parametrize("page", PAGES)
def test_every_preset_resolves_with_both_kinds_of_methods(page, size, method):
    config = resolve(page, preset=size, method=method)
    assert (len(config.agents), config.task.turns) == (2, 2)


def test_the_tables_are_the_codes():
    page = PAGES["coophe"]
    task, rules = CoopHETask(), resolve_rules(CoopHETask(), 2)
    for level, number in {
        "1a": task.helper_reward,
        "1b": task.main_reward,
        "2": task.syntax_reward,
        "3b": task.call_reward,
        "3c": task.own_work_reward,
        "3d": -task.ignored_penalty,
    }.items():
        assert re.search(rf"^\| {level} \|.*\| {number}(, else stop)? \|$", page, re.M), level
    assert (rules.max_reward, task.tests_reward, task.max_timeouts, task.memory_mb) == (4.0, 1.0, 3, 512)
    assert f"| seconds a test (`test_seconds`) | {PROFILES['paper'].test_seconds:g} | {PROFILES['comlrl'].test_seconds:g} |" in page
    levels = [row["level"] for row in built_in_rows()]
    for start, stop, level in re.findall(r"^\| (\d+):(\d+)(?: \w+)? \| (\d) \|", page, re.M):
        assert set(levels[int(start) : int(stop)]) == {int(level)}
