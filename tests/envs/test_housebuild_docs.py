"""The pages of the two Minecraft tasks: sample episodes print what they say, rows score as they say, commands resolve."""

import contextlib
import io
import json
import re
import shlex
from pathlib import Path

import pytest

from collm.config.load import resolve, resolve_task
from collm.config.tasks import HouseBuildTask
from collm.envs.housebuild.blueprint import row_blueprint
from collm.envs.housebuild.houses import BUILT_IN_ROWS
from collm.envs.score import Scorer

FOLDER = Path(__file__).parents[2] / "docs" / "tasks"
PAGES = {name: (FOLDER / f"{name}.md").read_text(encoding="utf-8") for name in ("housebuild", "strbuild")}


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


def test_the_rows_shown_are_rows():
    house, answer = (json.loads(block) for block in blocks("housebuild", "json"))
    assert row_blueprint(house).counts == {"white_concrete": 3}
    result = Scorer(HouseBuildTask()).score(answer)
    assert f'{{"reward": {result["reward"]}, "metrics": {{"iou": {result["metrics"]["iou"]}, ' in PAGES["housebuild"]


def test_the_table_of_houses_is_theirs():
    table = re.findall(r"^\| ([\d, ]+) \| \w+ \| (\d+) \| (\d+) \| (\d+) \|$", PAGES["housebuild"], flags=re.M)
    listed = {int(row): tuple(map(int, numbers)) for rows, *numbers in table for row in rows.split(", ")}
    found = [(row_blueprint(row), row["count"]["A"]) for row in BUILT_IN_ROWS]
    assert listed == {i: (len(house.rectangles), len(house.cells), air) for i, (house, air) in enumerate(found)}
