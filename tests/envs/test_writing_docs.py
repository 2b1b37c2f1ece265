"""The pages of the writing tasks: sample episodes print what they say, rows score, commands resolve, names exist."""

import contextlib
import io
import json
import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest

from collm.config.load import resolve, resolve_task
from collm.config.tasks import ArxivTask, TldrTask
from collm.envs.score import Scorer
from collm.envs.writing.rules import PROFILES, resolve_rules

FOLDER = Path(__file__).parents[2] / "docs" / "tasks"
PAGES = {name: (FOLDER / f"{name}.md").read_text(encoding="utf-8") for name in ("tldr", "arxiv")}
SECTIONS = {"tldr": TldrTask, "arxiv": ArxivTask}
BOTH = pytest.mark.parametrize("page", PAGES)


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGES[page], flags=re.M | re.S)


@BOTH
def test_the_sample_episode_prints_what_the_page_shows(page):
    (program,), (shown,) = blocks(page, "python"), blocks(page, "text")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(program, f"{page}.md", "exec"), {})
    assert printed.getvalue() == shown
    assert float(re.findall(r"reward (\d\.\d+)", shown)[-1]) > 2.5


@BOTH
def test_every_command_resolves(page):
    commands = [shlex.split(line, comments=True)[1:] for block in blocks(page, "sh") for line in block.splitlines()]
    assert {args[0] for args in commands} == {"train", "score"}
    for verb, task, *rest in commands:
        overrides = [word for word in rest if "=" in word]
        options = {word[2:]: value for word, value in pairwise(rest) if word.startswith("--")}
        if verb == "score":
            assert resolve_task(task, overrides=overrides).name == page
        else:
            assert resolve(task, overrides=overrides, **options).task.name == page


@BOTH
def test_the_row_shown_is_a_row(page):
    (row,) = blocks(page, "json")
    metrics = Scorer(SECTIONS[page]()).score(json.loads(row))["metrics"]
    table = PAGES[page].partition("## Metrics")[2].partition("## Commands")[0]
    named = {name for line in table.splitlines() if line.startswith("| `") for name in re.findall(r"`(\w+)`", line.split("|")[1])}
    assert named == set(metrics)


@BOTH
def test_the_windows_of_the_table_are_the_papers(page):
    rules = resolve_rules(SECTIONS[page]())
    table = PAGES[page].partition("| level | earns |")[2].partition("\n\n")[0]
    numbers = [float(number) for number in re.findall(r"\d+\.?\d*", table)]
    assert [rules.structure_reward, rules.min_tokens, rules.max_tokens] == numbers[1:4]
    length, vocabulary = rules.length, rules.vocabulary
    words = f"1 for r from {length.full_from} to {length.full_to}; rising from 0 at {length.low}, falling to 0 at {length.high}"
    assert words in table
    assert f"rising from 0 at {vocabulary.low}" in table
    assert f"0.5 for u from {vocabulary.full_from}" in table
    assert f"0.4 T + 0.6 min(J, {rules.overlap_full}) / {rules.overlap_full}" in table
    assert PROFILES[page, "paper"].length_window == (length.low, length.full_from, length.full_to, length.high)
