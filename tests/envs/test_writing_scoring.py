"""Measures, rules and reward of the writing tasks (tasks.md section 1)."""

import json
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from collm.config.tasks import ArxivTask, TldrTask
from collm.envs.score import Scorer
from collm.envs.writing.measures import jaccard, measure
from collm.envs.writing.rules import Window, resolve_rules
from collm.envs.writing.scoring import LEVELS, score_texts
from collm.envs.writing.split import split_paragraphs
from collm.errors import ConfigError

TASKS = {"tldr": TldrTask, "arxiv": ArxivTask}
RULES = {(name, profile): resolve_rules(TASKS[name](profile=profile)) for name in TASKS for profile in ("paper", "comlrl")}
PROFILES = pytest.mark.parametrize("which", RULES)

ORDINARY = ["however", "in addition", "in", "on the other hand", "the", "of", "tree", " ", "\n", "\t", ". ", "_", "1_000"]
ODD = ["Fluß", "ΟΔΟΣ", "İ", "日本", "🙂", "\x00", "\ud800", "```", "[PARAGRAPH_SPLIT]", "Paragraph 2:", "paragraph 1:"]
FRAGMENTS = ORDINARY + ODD
REPEATED = st.tuples(st.lists(st.sampled_from(["alpha", "beta", "so", "Gamma"]), max_size=8), st.integers(0, 60))
TEXTS = st.one_of(
    st.text(max_size=300),
    st.lists(st.sampled_from(FRAGMENTS), max_size=400).map("".join),
    st.lists(st.sampled_from(FRAGMENTS), max_size=300).map(" ".join),
    REPEATED.map(lambda drawn: " ".join(drawn[0] * drawn[1])),
)


def rules(task="tldr", **settings):
    return resolve_rules(TASKS[task](**settings))


def words(count, start=0, size=5):
    """Distinct content words of `size` letters."""
    return " ".join("".join(chr(97 + (start + i) // 26**k % 26) for k in range(3)).ljust(size, "q") for i in range(count))


# -- the recorded rewards of the released code --------------------------------------------------------------------------


@pytest.mark.parametrize(("task", "count"), [("tldr", 309), ("arxiv", 277)])
def test_comlrl_reproduces_every_recorded_row(shared, task, count):
    lexicon = str(shared / "oracles" / "lexicon.json")
    rows = [json.loads(line) for line in (shared / "oracles" / f"{task}.public.jsonl").read_text(encoding="utf-8").split("\n") if line]
    scorer = Scorer(TASKS[task](profile="comlrl", lexicon=lexicon))
    for row in rows:
        result = scorer.score({"task": {}, "responses": [row["completion1"], row["completion2"]]})
        metrics = result["metrics"]
        assert result["reward"] == pytest.approx(row["reward"], abs=1e-9), row
        assert metrics["score"] == pytest.approx(row["reward"] / 3, abs=1e-9)
        for level, value in zip(LEVELS, row["levels"], strict=True):
            assert metrics[f"{level}_reward"] == pytest.approx(value or 0.0, abs=1e-9), (level, row)
        assert [metrics["tokens_1"], metrics["tokens_2"]] == row["tokens"]
        if row["length_ratio"] is not None:
            assert metrics["length_ratio"] == pytest.approx(row["length_ratio"], abs=1e-9)
            assert metrics["unique_ratio"] == pytest.approx(row["unique_ratio"], abs=1e-9), row
        if "categories" in row:
            assert metrics["transition_categories"] == row["categories"], row
            assert metrics["jaccard"] == pytest.approx(row["jaccard"], abs=1e-9), row
    assert len(rows) == count


# -- measures -----------------------------------------------------------------------------------------------------------


def test_tokens_are_pieces_lengths_are_characters_and_words_are_runs_of_word_characters():
    seen = measure("  Don't stop -- now!\n", "STOP\tthe_tree, tree", rules())
    assert seen.tokens == (4, 3)
    assert seen.lengths == (21, 19)
    assert seen.unique == (1, 3)  # stop | stop, the_tree, tree; "don", "t" and "now" are stopwords
    assert seen.jaccard == pytest.approx(1 / 3)
    assert measure("  Don't stop -- now!\n", "STOP the tree", rules(unique_words="all")).unique == (4, 3)


def test_jaccard():
    assert jaccard({"a", "b"}, {"b", "c", "d"}) == pytest.approx(1 / 4)
    assert jaccard({"a"}, set()) == 0.0
    assert jaccard(set(), set()) == 1.0


def test_the_papers_phrases_end_at_word_boundaries_and_the_released_ones_anywhere():
    text = "Henceforth the butler kept a thousand sonatas."  # hence, but, so
    assert measure("", text, rules(profile="paper")).categories == ()
    assert "cause_effect" in measure("", text, rules(profile="comlrl")).categories
    assert measure("", "We waited, IN\n  Addition: nothing.", rules()).categories == ("elaboration",)
    assert measure("", "in, addition", rules()).categories == ()


def test_where_phrases_are_looked_for():
    first, second = "However, he came in", "addition to that he stayed."
    assert measure(first, second, rules("tldr")).categories == ("contrast",)
    assert measure(first, second, rules("tldr", profile="comlrl")).categories == ()
    glued = measure("We came howe", "ver late", rules("arxiv", profile="comlrl"))
    assert "contrast" in glued.categories
    assert "contrast" not in measure("We came howe", "ver late", rules("arxiv")).categories


# -- levels -------------------------------------------------------------------------------------------------------------

WINDOW = Window(1.1, 1.6, 3.2, 5.0)


@pytest.mark.parametrize(
    ("ratio", "share"),
    [(1.0999, None), (1.1, 0.0), (1.35, 0.5), (1.6, 1.0), (2.0, 1.0), (3.2, 1.0), (4.1, 0.5), (5.0, 0.0), (5.0001, None), (0.0, None)],
)
def test_a_window_includes_its_ends(ratio, share):
    assert WINDOW.share(ratio) == (None if share is None else pytest.approx(share))


def test_a_window_may_be_steep_or_open():
    assert Window(1.0, 1.0, 2.0, 2.0).share(1.0) == Window(1.0, 1.0, 2.0, 2.0).share(2.0) == 1.0
    assert Window(1.3, 2.0, math.inf, math.inf).share(1e9) == 1.0


@given(st.lists(st.floats(0, 10), min_size=4, max_size=4).map(sorted), st.floats(0, 12))
def test_a_window_gives_a_share_inside_and_nothing_outside(ends, ratio):
    share = Window(*ends).share(ratio)
    assert (share is None) == (not ends[0] <= ratio <= ends[3])
    assert share is None or 0 <= share <= 1


@pytest.mark.parametrize(
    ("tokens", "structure"), [((7, 40), None), ((8, 40), 0.5), ((8, 256), 0.5), ((256, 256), 0.5), ((8, 257), None), ((257, 8), None)]
)
def test_level_1_wants_both_texts_inside_the_bounds(tokens, structure):
    score = score_texts(words(tokens[0]), words(tokens[1]), rules())
    assert score.levels[0] == (structure or 0.0)
    assert (score.stopped_at == "structure") == (structure is None)


def test_at_a_lower_bound_a_level_earns_nothing_and_the_next_is_reached():
    first, second, own = words(10, size=9).ljust(100), words(20, start=3), rules(length_window=[1.5, 2.0])
    at = score_texts(first, second.ljust(150), own)
    assert (at.levels[:3], len(at.levels)) == ((0.5, 0.0, 0.5), 4)
    below = score_texts(first, second.ljust(149), own)
    assert (below.levels, below.stopped_at) == ((0.5, 0.0), "length")


def test_the_same_for_the_vocabulary():
    at = score_texts(words(10), words(13, start=5).ljust(120), rules())  # u = 1.3
    assert (at.levels[:3], len(at.levels)) == ((0.5, 1.0, 0.0), 4)
    assert at.reward == pytest.approx(0.5 + 1.0 + 0.6)
    below = score_texts(words(10), words(12, start=5).ljust(120), rules())
    assert (below.levels, below.stopped_at) == ((0.5, 1.0, 0.0), "vocabulary")


def test_levels_already_earned_are_kept_at_a_stop():
    few = score_texts(words(10), words(12).ljust(120), rules())  # u = 1.2
    assert few.stopped_at == "vocabulary"
    assert few.levels == (0.5, 1.0, 0.0)
    assert few.reward == 1.5
    assert few.metrics()["levels_passed"] == 2.0
    assert few.metrics()["style_reward"] == 0.0
    assert few.metrics()["jaccard"] == pytest.approx(10 / 12)  # measured all the same


def test_tldr_by_hand():
    first = "My neighbour plays loud music and I cannot sleep."
    second = (
        "The writer cannot sleep because a neighbour plays piano at night. However, talking helped only briefly. "
        "As a result, moving away seems tempting."
    )
    score = score_texts(first, second, rules())
    assert score.measures.tokens == (9, 23)
    assert score.measures.lengths == (49, 144)
    assert score.measures.unique == (5, 15)  # neighbour plays loud music sleep | writer sleep neighbour plays piano ...
    assert score.measures.categories == ("cause_effect", "contrast")
    assert score.levels[:3] == (0.5, 1.0, 0.5)
    assert score.levels[3] == pytest.approx(0.4 * 0.6 * math.log(3) + 0.6)
    assert score.reward == pytest.approx(2.0 + 0.24 * math.log(3) + 0.6)


def test_arxiv_by_hand():
    first = f"{words(100)} however {words(30)}"  # 131 tokens, 101 content words ("however" is one, for no stopword)
    second = f"{words(90, start=50)} in short {words(50, start=50)}"
    score = score_texts(first, second, rules("arxiv"))
    assert score.measures.tokens == (131, 142)
    ratio = len(second) / len(first)
    assert 1.0 < ratio < 1.3
    assert score.measures.unique == (101, 91)
    shared = 50 / (101 + 91 - 50)
    assert score.levels == pytest.approx((0.5, 1.0, 0.5, 0.4 * 0.4 * math.log(3) + 0.6))
    assert score.measures.jaccard == pytest.approx(shared)
    released = score_texts(first, second, rules("arxiv", profile="comlrl"))
    assert released.levels[1] == pytest.approx((ratio - 0.8) / (1.3 - 0.8))


@pytest.mark.parametrize(("task", "rate"), [("tldr", 0.6), ("arxiv", 0.4)])
def test_transition_scores(task, rate):
    paper, released = rules(task).transitions, rules(task, profile="comlrl").transitions
    assert [paper.score(k) for k in (0, 1, 3)] == pytest.approx([0.0, rate * math.log(2), rate * math.log(4)])
    assert paper.score(40) == 1.0
    assert [released.score(k) for k in (0, 1, 2, 12, 13, 99)] == pytest.approx([0.0, 0.4, 0.45, 0.95, 1.0, 1.0])


def test_profiles_differ_where_tasks_md_says_so():
    found = {which: (r.unique_words, r.transitions.curve, r.transitions.match, r.transitions.searched) for which, r in RULES.items()}
    assert found["tldr", "paper"] == found["arxiv", "paper"] == ("content", "log", "words", "both")
    assert found["tldr", "comlrl"] == ("all", "steps", "substring", "second")
    assert found["arxiv", "comlrl"] == ("all", "steps", "substring", "glued")
    assert RULES["tldr", "paper"].length == RULES["tldr", "comlrl"].length == Window(1.1, 1.6, 3.2, 5.0)
    assert RULES["arxiv", "paper"].length == Window(0.8, 1.0, 1.3, 1.5)
    assert RULES["arxiv", "comlrl"].length == Window(0.8, 1.3, 1.6, 2.0)
    assert RULES["tldr", "paper"].vocabulary == Window(1.3, 2.0, math.inf, math.inf)
    assert RULES["arxiv", "paper"].vocabulary == Window(0.5, 0.7, 1.3, 1.7)
    assert {r.max_reward for r in RULES.values()} == {3.0}


def test_settings_win_over_the_profile():
    own = rules("arxiv", profile="comlrl", length_window=[1, 2, 3, 4], unique_words="content", transition_texts="second", overlap_full=0.5)
    assert own.length == Window(1, 2, 3, 4)
    assert (own.unique_words, own.transitions.searched, own.transitions.curve, own.overlap_full) == ("content", "second", "steps", 0.5)
    free = rules(min_tokens=0, max_tokens=10**9, length_window=[0, 0], vocabulary_window=[0, 0], structure_reward=1, length_reward=2,
                 vocabulary_reward=3, transition_weight=4, overlap_weight=5)  # fmt: skip
    assert free.max_reward == 15
    assert score_texts("", "", free).reward == 1 + 2 + 3 + 0 + 5  # empty texts: ratios 0, no transition, J = 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_tokens": 20, "max_tokens": 10}, "max_tokens=10 is below min_tokens=20"),
        ({"length_window": [1, 2, 3]}, "length_window has 3 numbers"),
        ({"length_window": []}, "length_window has 0 numbers"),
        ({"vocabulary_window": [2, 1]}, r"vocabulary_window=\[2.*\] goes down"),
        ({"overlap_full": 0}, "overlap_full"),
        ({"structure_reward": -1}, "structure_reward"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        TldrTask(**settings)


def test_a_reward_that_is_always_0_is_refused():
    nothing = dict.fromkeys(["structure_reward", "length_reward", "vocabulary_reward", "transition_weight", "overlap_weight"], 0)
    with pytest.raises(ConfigError, match="every reward and weight is 0"):
        rules(**nothing)


# -- the single-agent form ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("response", "first", "second"),
    [
        ("One.\n[PARAGRAPH_SPLIT]\nTwo.", "One.", "Two."),
        ("One. [PARAGRAPH_SPLIT] Two. [PARAGRAPH_SPLIT] Three.", "One.", "Two. [PARAGRAPH_SPLIT] Three."),
        ("Paragraph 1: One.\n[PARAGRAPH_SPLIT]\nParagraph 2: Two.", "One.", "Two."),
        ("Paragraph 2: One. [PARAGRAPH_SPLIT] Two.", "Paragraph 2: One.", "Two."),
        ("Paragraph 1:\nOne.\n\nPARAGRAPH 2: Two. Paragraph 2: Three.", "One.", "Two. Paragraph 2: Three."),
        ("Paragraph 2: Two.", "", "Two."),
        ("abc defghi", "abc", "defghi"),
        ("  abcdefghi\n", "abc", "defghi"),
        ("[PARAGRAPH_SPLIT]", "", ""),
        ("ab", "", "ab"),
        ("", "", ""),
    ],
)
def test_one_response_is_split(response, first, second):
    assert split_paragraphs(response) == (first, second)


@given(TEXTS)
def test_splitting_keeps_the_words_and_never_raises(response):
    first, second = split_paragraphs(response)
    assert (first, second) == (first.strip(), second.strip())
    assert len(first) + len(second) <= len(response)
    assert first in response
    assert second in response


# -- properties ---------------------------------------------------------------------------------------------------------


@PROFILES
@given(first=TEXTS, second=TEXTS)
def test_no_text_breaks_the_reward(which, first, second):
    score = score_texts(first, second, RULES[which])
    assert 0 <= score.reward <= 3.0 + 1e-12
    assert score.levels == (0.0,) or score.levels[0] == 0.5
    assert 0 <= score.transition <= 1
    assert 0 <= score.measures.jaccard <= 1
    assert all(math.isfinite(value) for value in score.metrics().values())
    assert score_texts(first, second, RULES[which]) == score
    assert (score.stopped_at is None) == (len(score.levels) == 4)


LONG = {
    "spaces after half a phrase": lambda n: "in" + " " * n + "x",
    "half a phrase again and again": lambda n: "in the " * (n // 7),
    "one word": lambda n: "a" * n,
    "words": lambda n: words(n // 6),
    "underscores": lambda n: "_" * n,
    "labels": lambda n: "paragraph 2" * (n // 11),
    "half markers": lambda n: "[PARAGRAPH_SPLIT" * (n // 16),
    "Σ": lambda n: "Σ" * n,
}


@pytest.mark.parametrize("kind", LONG)
def test_long_texts_take_linear_time(kind):
    def seconds(n):
        text, best = LONG[kind](n), math.inf
        for _ in range(3):
            start = time.process_time()
            first, second = split_paragraphs(text)
            score_texts(first, second, RULES["tldr", "paper"])
            score_texts(text, text, RULES["arxiv", "comlrl"])
            best = min(best, time.process_time() - start)
        return best

    assert seconds(8 * 16384) < 24 * seconds(16384) + 0.02  # a quadratic step would take 64 times as long
