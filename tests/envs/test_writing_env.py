"""TLDR and arXiv as environments: prompts, roles, single-agent form, rows, lexicon files, contract."""

import contextlib
import copy
import json
import os
import pickle
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pettingzoo.test import parallel_api_test

from collm.config.load import resolve
from collm.config.tasks import ArxivTask, TldrTask
from collm.envs.check import check_observations, global_info, joint_flag, shared_reward, step_metrics
from collm.envs.data import load_rows
from collm.envs.registry import make_env
from collm.envs.score import Scorer
from collm.envs.writing.env import WritingEnv
from collm.envs.writing.lexicon import load_lexicon, parse_lexicon
from collm.envs.writing.rows import COLUMN, built_in_rows
from collm.envs.writing.split import MARKER
from collm.errors import ConfigError, DataError

TASKS = {"tldr": TldrTask, "arxiv": ArxivTask}
BOTH = pytest.mark.parametrize("task", TASKS)


def make(task="tldr", n=2, source="The source.", **settings):
    env = WritingEnv(TASKS[task](**settings), n)
    observations, _ = env.reset(seed=0, options={"task": {COLUMN[task]: source}})
    return env, observations


CONCISE = "My neighbour plays loud music and I cannot sleep."
DETAILED = (
    "The writer cannot sleep because a neighbour plays piano at night. However, talking helped only briefly. "
    "As a result, moving away seems tempting."
)


# -- prompts ------------------------------------------------------------------------------------------------------------


def test_tldr_prompts():
    _, observations = make(source="SUBREDDIT: r/x\n\nPOST: {topic} 100 %\n\nTL;DR:")
    assert observations == {
        "agent_0": "Write a concise summary of this post. Another agent writes a detailed summary.\n\n"
        "Post:\nSUBREDDIT: r/x\n\nPOST: {topic} 100 %\n\nTL;DR:",
        "agent_1": "Write a detailed summary of this post, with transition words. Another agent writes a concise summary.\n\n"
        "Post:\nSUBREDDIT: r/x\n\nPOST: {topic} 100 %\n\nTL;DR:",
    }


def test_arxiv_prompts():
    _, observations = make("arxiv")
    assert "its background and motivation" in observations["agent_0"]
    assert "Another agent writes the next paragraph, method and implications." in observations["agent_0"]
    assert "its method and implications" in observations["agent_1"]
    assert "Another agent writes the first paragraph, background and motivation." in observations["agent_1"]
    assert all(text.endswith("\n\nAbstract:\nThe source.") for text in observations.values())


@BOTH
def test_one_agent_is_asked_for_both_texts(task):
    _, observations = make(task, n=1)
    assert list(observations) == ["agent_0"]
    assert f"Put {MARKER} between them." in observations["agent_0"]


def test_roles_of_your_own():
    _, observations = make(roles=["Be brief.", "Be long."])
    assert observations == {"agent_0": "Be brief.\n\nPost:\nThe source.", "agent_1": "Be long.\n\nPost:\nThe source."}


@BOTH
def test_nobody_reads_what_another_wrote(task):
    env, before = make(task)
    after, *_ = env.step({"agent_0": "SECRET-ONE " * 130, "agent_1": "SECRET-TWO " * 130})
    assert not any("SECRET" in text for text in [*before.values(), *after.values(), env.state()["text"]])


# -- playing ------------------------------------------------------------------------------------------------------------


def test_an_episode():
    env, observations = make()
    assert global_info(env.state()).text == "Turn 1 of 1. Last reward 0.00 of 1."
    observations, rewards, terminations, truncations, infos = env.step({"agent_0": CONCISE, "agent_1": DETAILED})
    assert shared_reward(rewards) == pytest.approx(2.8636695)
    assert not joint_flag("terminations", terminations)
    assert joint_flag("truncations", truncations)
    assert env.agents == []
    metrics = step_metrics(infos)
    assert metrics["score"] == pytest.approx(2.8636695 / 3)
    assert {name: metrics[name] for name in ("tokens_1", "tokens_2", "transition_categories", "levels_passed")} == {
        "tokens_1": 9.0,
        "tokens_2": 23.0,
        "transition_categories": 2.0,
        "levels_passed": 4.0,
    }
    assert infos["agent_1"]["details"] == {"stopped_at": None, "transition_categories": ["cause_effect", "contrast"]}
    assert json.loads(json.dumps(infos)) == infos
    assert set(observations.values()) == {"Finished after turn 1 of 1. Score 2.86 of 3.0."}
    assert env.state()["features"].tolist() == pytest.approx([1.0, 1.0, 2.8636695 / 3])


@BOTH
@pytest.mark.parametrize("profile", ["paper", "comlrl"])
def test_one_agent_scores_as_two_that_write_the_same(task, profile):
    first, second = (CONCISE, DETAILED) if task == "tldr" else (f"{CONCISE} " * 16, f"{DETAILED} " * 6)
    first, second = first.strip(), second.strip()
    alone, _ = make(task, n=1, profile=profile)
    team, _ = make(task, profile=profile)
    one = alone.step({"agent_0": f"{first}\n{MARKER}\n{second}"})
    two = team.step({"agent_0": first, "agent_1": second})
    assert one[1]["agent_0"] == two[1]["agent_0"] > 0.5
    assert one[4]["agent_0"] == two[4]["agent_0"]


MANGLED = st.one_of(st.text(), st.sampled_from(["\ud800", "\x00" * 40, MARKER * 3, "Paragraph 2:" * 50, "however " * 300, " " * 9999]))


@BOTH
@settings(max_examples=60)
@given(data=st.data(), n=st.sampled_from([1, 2]))
def test_no_response_breaks_an_episode(task, data, n):
    env, _ = make(task, n)
    actions = {agent: data.draw(MANGLED) for agent in env.agents}
    observations, rewards, terminations, truncations, infos = env.step(actions)
    assert 0 <= shared_reward(rewards) <= 3
    assert list(check_observations(observations, env.possible_agents)) == env.possible_agents
    assert joint_flag("truncations", truncations)
    assert not joint_flag("terminations", terminations)
    assert 0 <= step_metrics(infos)["score"] <= 1


@BOTH
def test_pettingzoo_api(task):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n in (1, 2):
            parallel_api_test(WritingEnv(TASKS[task](), n), num_cycles=10)


@BOTH
def test_without_a_row_the_seed_draws_a_built_in_source(task):
    def draw(seed):
        return WritingEnv(TASKS[task](), 2).reset(seed=seed)[0]["agent_0"]

    assert [draw(s) for s in range(20)] == [draw(s) for s in range(20)]
    assert len({draw(s) for s in range(40)}) > 20


@BOTH
def test_copies_and_pickles_go_on_alike_and_apart(task):
    env, _ = make(task)
    twin, loaded = copy.deepcopy(env), pickle.loads(pickle.dumps(env))
    assert twin._rules is env._rules  # what never changes is not copied
    env.step({"agent_0": "", "agent_1": ""})
    actions = {"agent_0": CONCISE, "agent_1": DETAILED}
    assert twin.step(actions) == loaded.step(actions)
    assert [twin.reset()[0] for _ in range(5)] == [loaded.reset()[0] for _ in range(5)]  # the generator is copied too


# -- agents -------------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(("n", "message"), [(3, "takes one or two agents, not 3"), (0, "needs one or two agents, got 0")])
def test_other_teams_are_refused(task, n, message):
    with pytest.raises(ConfigError, match=message):
        WritingEnv(TASKS[task](), n)


def test_a_configuration_with_three_agents_is_refused():
    with pytest.raises(ConfigError, match="takes one or two agents, not 3; list at most 2.*agents:"):
        resolve("tldr", overrides=["agents=[{}, {}, {}]"])
    with pytest.raises(ConfigError, match="task.roles names 1 roles for 2 agents"):
        resolve("arxiv", overrides=["task.roles=[Write.]"])
    own = resolve("tldr", overrides=["agents=[{}, {}, {}]", "task.env=my_pkg.my_mod:MyEnv"])  # rules of its own
    assert len(own.agents) == 3


# -- rows ---------------------------------------------------------------------------------------------------------------


@BOTH
def test_built_in_rows(task):
    train, test = load_rows(TASKS[task]())
    assert (len(train), len(test)) == (48, 12)
    sources = [row[COLUMN[task]] for row in [*train, *test]]
    assert len(set(sources)) == 60
    for source in sources:
        body = source.partition("POST: ")[2].partition("\n\nTL;DR:")[0] if task == "tldr" else source
        assert 60 <= len(body.split()) <= 120
        assert body.isascii()
        assert "{" not in body
    if task == "tldr":
        assert all(source.startswith("SUBREDDIT: r/") and source.endswith("\n\nTL;DR:") for source in sources)


@pytest.mark.parametrize(
    ("task", "file", "count"), [("tldr", "tldr/tldr_sample.jsonl", 220), ("arxiv", "arxiv/arxiv_abstract_sample.jsonl", 300)]
)
def test_real_data_load_and_play(shared, task, file, count):
    section = TASKS[task](data=str(shared / "data" / file), train_rows="0:100", test_rows="100:")
    train, test = load_rows(section)
    assert (len(train), len(test)) == (100, count - 100)
    env = make_env(section, 2, "full")
    for row in [*train, *test]:
        observations, _ = env.reset(seed=0, options={"task": row})
        assert all(text.endswith(row[COLUMN[task]]) for text in observations.values())
        assert all(len(text) < 10_000 for text in observations.values())
        assert step_metrics(env.step({"agent_0": row[COLUMN[task]], "agent_1": row[COLUMN[task]]})[4])["jaccard"] == 1.0


def test_the_papers_split_is_the_default_of_given_data(tmp_path):
    path = tmp_path / "posts.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"Post {i}."}) + "\n" for i in range(1200)), encoding="utf-8")
    train, test = load_rows(TldrTask(data=str(path)))
    assert (len(train), len(test)) == (1000, 100)
    assert test[0] == {"prompt": "Post 1000."}


@pytest.mark.parametrize(
    ("task", "row", "message"),
    [
        ("tldr", {}, r"a\.jsonl, line 2: field 'prompt' is missing \(fields: none\)"),
        ("tldr", {"post": "x"}, r"a\.jsonl, line 2: field 'prompt' is missing \(fields: post\); a row is like"),
        ("arxiv", {"abstract_text": 7}, r"a\.jsonl, line 2, field 'abstract_text': expected text, got int"),
        ("arxiv", {"abstract_text": " \n"}, r"a\.jsonl, line 2, field 'abstract_text': the text is empty; leave the row out"),
    ],
)
def test_a_data_row_without_a_source_is_refused(tmp_path, task, row, message):
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps(r) for r in ({COLUMN[task]: "fine"}, row)), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        load_rows(TASKS[task](data=str(path), train_rows="0:1", test_rows="1:"))


@BOTH
@pytest.mark.parametrize("row", [{}, {"string": "ICML"}, "text"])
def test_an_episode_needs_a_source(task, row):
    with pytest.raises(DataError, match="missing|expected an object"):
        WritingEnv(TASKS[task](), 2).reset(options={"task": row})


@BOTH
def test_scoring_needs_none(task):
    scorer = Scorer(TASKS[task]())
    for reference in ({}, {COLUMN[task]: "any"}, {"id": 3}):
        result = scorer.score({"task": reference, "responses": [CONCISE, DETAILED]})
        assert result["reward"] == pytest.approx(2.8636695 if task == "tldr" else 0.0)
        assert result["terminated"] is False
    assert scorer.score({"task": {}, "responses": [f"{CONCISE} {MARKER} {DETAILED}"]})["reward"] == result["reward"]
    with pytest.raises(DataError, match=f"field '{COLUMN[task]}': expected text, got int"):
        scorer.score({"task": {COLUMN[task]: 3}, "responses": ["", ""]})
    with pytest.raises(ConfigError, match="one or two agents"):
        scorer.score({"task": {}, "responses": ["", "", ""]})


def test_built_in_rows_are_read_once():
    assert built_in_rows("tldr") is built_in_rows("tldr")


# -- lexicon ------------------------------------------------------------------------------------------------------------

CATEGORIES = ["elaboration", "examples", "explanation", "cause_effect", "contrast", "sequence", "emphasis", "summary", "comparison",
              "concession", "condition", "time"]  # fmt: skip


def test_the_projects_own_lexicon():
    lexicon = load_lexicon(None)
    assert [category.name for category in lexicon.categories] == CATEGORIES
    phrases = [phrase for category in lexicon.categories for phrase in category.phrases]
    assert len(set(phrases)) == len(phrases) > 150  # one phrase tells one category
    assert all(phrase == " ".join(phrase.split()) for phrase in phrases)
    assert len(lexicon.stopwords) > 150
    for category in lexicon.categories:
        for phrase in category.phrases:
            assert category.found_in(f"we say {phrase}, then stop", "words")
            assert not category.found_in(f"x{phrase}x", "words")
            assert category.found_in(f"x{phrase}x", "substring")


def test_a_lexicon_of_your_own(tmp_path):
    path = tmp_path / "lexicon.json"
    path.write_text('{"stopwords": ["Neighbour"], "transition_words": {"mood": ["E.G.", "oh well"]}}', encoding="utf-8")
    env, _ = make(lexicon=str(path))
    infos = env.step({"agent_0": CONCISE, "agent_1": f"{DETAILED} Oh\nwell, e.g. so."})[4]
    assert infos["agent_0"]["details"]["transition_categories"] == ["mood"]
    path.write_text('{"stopwords": [], "transition_words": {"new": ["however"]}}', encoding="utf-8")
    os.utime(path, (0, 0))  # the file system's clock may be too coarse to tell
    assert [category.name for category in load_lexicon(str(path)).categories] == ["new"]


GOOD = {"stopwords": ["a"], "transition_words": {"contrast": ["but"]}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "L: expected an object like .*, got list"),
        ({"stopwords": []}, "L: key 'transition_words' is missing .keys: stopwords."),
        ({**GOOD, "stop": []}, "L: unknown key 'stop'"),
        ({**GOOD, "stopwords": "a b"}, "L, stopwords: expected a list of texts, got str"),
        ({**GOOD, "stopwords": ["a", 3]}, "L, stopwords: entry 1 is 3, not a word"),
        ({**GOOD, "transition_words": {}}, "L, transition_words: expected an object with a list"),
        ({**GOOD, "transition_words": ["but"]}, "L, transition_words: expected an object with a list"),
        ({**GOOD, "transition_words": {"contrast": []}}, r"L, transition_words\.contrast: the list is empty"),
        ({**GOOD, "transition_words": {"contrast": ["but", " "]}}, r"L, transition_words\.contrast: entry 1 is ' '"),
    ],
)
def test_a_lexicon_that_cannot_be_used_is_named(content, message):
    with pytest.raises(ConfigError, match=message):
        parse_lexicon(content, "L")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, r"task.lexicon: .*l\.json cannot be read \(No such file.*give a .json file"),
        (b"{", r"l\.json, line 1, column 2: not JSON"),
        (b"\xff", r"l\.json is not UTF-8 text"),
        (b"[" * 100_000, r"l\.json cannot be read as JSON"),
    ],
)
def test_a_lexicon_file_that_cannot_be_read_is_named(tmp_path, data, message):
    path = tmp_path / "l.json"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ConfigError, match=message):
        WritingEnv(TldrTask(lexicon=str(path)), 2)


JSON = st.recursive(
    st.none() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["stopwords", "transition_words", "x"]), inner),
)


@given(
    JSON | st.fixed_dictionaries({"stopwords": st.lists(st.text()), "transition_words": st.dictionaries(st.text(), st.lists(st.text()))})
)
def test_a_lexicon_is_used_or_refused_by_name(content):
    lexicon = None
    with contextlib.suppress(ConfigError):
        lexicon = parse_lexicon(content, "L")
    usable = isinstance(content, dict) and set(content) == {"stopwords", "transition_words"} and bool(content["transition_words"])
    assert lexicon is None or usable
    if lexicon is not None:
        assert all(category.found_in(" ".join(category.phrases[0].split()), "words") for category in lexicon.categories)
