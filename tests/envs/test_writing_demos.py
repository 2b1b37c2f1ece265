"""The scripted writers that the built-in models imitate, and the posts and abstracts they write about."""

import dataclasses
import random
import statistics
import sys
from pathlib import Path

import pytest

from collm.config.tasks import ArxivTask, TldrTask
from collm.envs.data import load_rows
from collm.envs.writing.rows import COLUMN, built_in_rows
from collm.envs.writing.split import MARKER

TASKS = pytest.mark.parametrize("task", ["tldr", "arxiv"])
SECTIONS = {"tldr": TldrTask(), "arxiv": ArxivTask()}


@pytest.fixture(scope="module")
def demos():
    sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
    try:
        from tiny_models import demos_writing
    finally:
        sys.path.pop(0)
    return demos_writing


@pytest.fixture
def demonstrate(demos):
    return {"tldr": demos.tldr_demonstrations, "arxiv": demos.arxiv_demonstrations}


@TASKS
def test_dialogues_are_single_turns_with_the_environments_prompts(demonstrate, task):
    dialogues = demonstrate[task](random.Random(1), 60)
    assert 100 < len(dialogues) < 120  # two an episode, one where an agent is alone
    header = {"tldr": "\n\nPost:\nSUBREDDIT: r/", "arxiv": "\n\nAbstract:\n"}[task]
    for dialogue in dialogues:
        ((observation, response),) = dialogue
        assert header in observation
        assert response
        assert "{" not in observation + response
        assert (MARKER in response) == (MARKER in observation)
    assert len({dialogue[0][0] for dialogue in dialogues}) > 100


@TASKS
def test_the_seed_decides(demonstrate, task):
    same = [demonstrate[task](random.Random(3), 5, careful=0.5) for _ in range(2)]
    assert same[0] == same[1] != demonstrate[task](random.Random(4), 5, careful=0.5)


@TASKS
def test_no_demonstration_shows_a_test_row(demos, task):
    test = [row[COLUMN[task]] for row in load_rows(SECTIONS[task])[1]]
    kind = demos.TASKS[task]
    pool = [demos.Source(text, {}) for text in test] + [demos.Source("fresh", {})]
    rigged = dataclasses.replace(kind, compose=lambda rng: rng.choice(pool))
    assert {demos.fresh_source(rigged, random.Random(seed)).text for seed in range(60)} == {"fresh"}


@TASKS
def test_noisy_writers_leave_room_and_careful_ones_show_it_can_be_used(demos, task):
    def rewards(careful):
        rng = random.Random(7)
        return [demos.play(demos.TASKS[task], rng, careful)[1] for _ in range(250)]

    noisy, careful = rewards(0.0), rewards(1.0)
    assert 1.0 < statistics.fmean(noisy) < 1.7
    assert statistics.pstdev(noisy) > 0.8
    assert statistics.fmean(careful) > 2.7


@TASKS
def test_slots_stand_in_the_source_word_for_word(demos, task):
    rng = random.Random(5)
    for _ in range(200):
        source = demos.TASKS[task].compose(rng)
        lowered = source.text.lower()
        assert all(text.lower() in lowered for text in source.slots.values())


def test_the_built_in_rows_are_what_the_script_writes(demos, tmp_path, monkeypatch):
    sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
    try:
        import make_writing_data
    finally:
        sys.path.pop(0)
    monkeypatch.setattr(sys, "argv", ["make_writing_data.py", "--out", str(tmp_path)])
    make_writing_data.main()
    for task, name in (("tldr", "posts.jsonl"), ("arxiv", "abstracts.jsonl")):
        package = Path(sys.modules[built_in_rows.__module__].__file__).with_name(name)
        assert (tmp_path / name).read_bytes() == package.read_bytes(), task
