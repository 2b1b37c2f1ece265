"""Glyphs, rules and score of StrBuild (tasks.md section 3)."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collm.config.tasks import StrBuildTask
from collm.envs.score import Scorer
from collm.envs.strbuild.glyphs import GLYPHS, lay_out
from collm.envs.strbuild.rules import resolve_rules
from collm.envs.strbuild.scoring import score_build, texture
from collm.errors import ConfigError, DataError

ORACLE = Path(__file__).resolve().parents[2].parent / "shared" / "oracles" / "strbuild.public.jsonl"
WORDS = st.text(alphabet="ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=1, max_size=8)


def rules(n=2, **settings):
    return resolve_rules(StrBuildTask(**settings), n)


def picture(text):
    layout = lay_out(text)
    return ["".join("#" if (x, y) in layout.cells else "." for x in range(layout.width)) for y in range(4, -1, -1)]


def test_row_0_of_a_glyph_is_the_top_and_letters_stand_two_columns_apart():
    assert picture("LF") == ["#......#####", "#......#....", "#......####.", "#......#....", "#####..#...."]
    assert len(GLYPHS) == 26


@pytest.mark.parametrize(
    ("text", "cells"), [("I", 13), ("C", 11), ("L", 9), ("M", 13), ("MC", 24), ("LLM", 31), ("ICML", 46), ("NEURIPS", 92)]
)
def test_number_of_target_cells(text, cells):
    assert len(lay_out(text).cells) == cells


@given(WORDS)
def test_layout_is_inside_its_box_and_the_letters_side_by_side(text):
    layout = lay_out(text)
    assert layout.width == 7 * len(text) - 2
    assert len(layout.cells) == sum(len(GLYPHS[letter]) for letter in text)
    assert all((x, y, 0) in layout.box for x, y in layout.cells)
    assert all(x % 7 < 5 for x, _ in layout.cells)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "string: the string is empty"),
        ("ICM1", "'1'; use only the letters A-Z"),
        ("Icml", "write ICML"),
        ("ß", "no glyph for 'ß'; write SS"),
        (7, "got 7 .int."),
    ],
)
def test_a_string_that_cannot_be_spelled_is_refused(text, message):
    with pytest.raises(DataError, match=message):
        lay_out(text)


def test_under_comlrl_other_characters_are_blank_and_the_string_is_upper_cased():
    assert lay_out("i1", blank_unknown=True).cells == lay_out("I").cells
    assert lay_out("i1", blank_unknown=True).width == 12
    assert len(lay_out("ß", blank_unknown=True).cells) == 2 * len(GLYPHS["S"])


@pytest.mark.parametrize(
    ("block", "key"),
    [("oak_planks", "wood"), ("birch_wood", "wood"), ("end_stone", "stone"), ("stone_bricks", "stone"), ("glowstone", "glowstone"),
     ("white_concrete", "concrete"), ("obsidian", "obsidian"), ("cobblestone", "stone")],
)  # fmt: skip
def test_texture(block, key):
    assert texture(block) == key


def test_the_papers_score_by_hand():
    layout = lay_out("L")  # 9 cells: the column x = 0 and the row y = 0
    blocks = {(0, 4): "stone", (0, 3): "stone", (0, 2): "oak_planks", (2, 2): "obsidian"}
    score = score_build(blocks, layout, rules())
    assert (score.covered, score.extras, score.adjacent_pairs, score.missing_palettes) == (3, 1, 2, 1)
    assert score.reward == pytest.approx(2 * 3 / 9 - 1.5 * 1 / 9 - 0.5 * 1 / 2)
    assert score.iou == pytest.approx(3 / 10)
    released = score_build(blocks, layout, rules(profile="comlrl"))
    assert released.reward == pytest.approx(2 * 3 / 9 - 1.5 * 1 / 16 - 1.0 * 1 / 2 - 0.25)
    own = score_build(
        blocks, layout, rules(coverage_weight=1, extra_weight=0, adjacency_weight=0, palette_weight=1, extra_cells="non_target")
    )
    assert own.reward == pytest.approx(3 / 9 - 1)


def test_an_empty_world_scores_nothing():
    assert score_build({}, lay_out("ICML"), rules()).reward == 0.0
    assert score_build({}, lay_out("-", blank_unknown=True), rules(profile="comlrl")).metrics()["iou"] == 0.0


@given(WORDS, st.sampled_from(["paper", "comlrl"]), st.data())
def test_score_never_exceeds_its_maximum_and_a_checkerboard_reaches_it(text, profile, data):
    layout, r = lay_out(text), rules(profile=profile, palettes=[["stone"], ["obsidian"]], palette_weight=0)
    board = {(x, y): ("stone", "obsidian")[(x + y) % 2] for x, y in layout.cells}
    assert score_build(board, layout, r).reward == pytest.approx(2.0)
    cells = st.tuples(st.integers(0, layout.width - 1), st.integers(0, 4))
    blocks = data.draw(st.dictionaries(cells, st.sampled_from(["stone", "obsidian"])))
    score = score_build(blocks, layout, r)
    assert score.reward <= 2.0
    assert 0 <= score.coverage <= 1
    assert 0 <= score.adjacency <= 1
    assert 0 <= score.iou <= score.coverage + 1e-12
    assert score.covered + score.extras == len(blocks)


@pytest.mark.skipif(not ORACLE.exists(), reason=f"needs the recorded rewards {ORACLE}")
def test_comlrl_reproduces_every_recorded_row():
    rows = [json.loads(line) for line in ORACLE.read_text(encoding="utf-8").splitlines()]
    scorer = Scorer(StrBuildTask(profile="comlrl"))
    same = ("coverage", "extra_ratio", "missing_palettes", "iou")
    names = {**{name: name for name in same}, "adjacency": "adjacent_same_ratio"}
    for row in rows:
        result = scorer.score({"task": {"string": row["string"]}, "responses": [row["completion1"], row["completion2"]]})
        assert result["reward"] == pytest.approx(row["reward"], abs=1e-9), row
        for ours, theirs in names.items():
            assert result["metrics"][ours] == pytest.approx(row[theirs], abs=1e-9), (ours, row)
    assert len(rows) == 312


def test_settings_win_over_the_profile():
    assert (rules().adjacency_weight, rules().palette_weight, rules().extra_cells, rules().show_target) == (0.5, 0.0, "target", True)
    released = rules(profile="comlrl")
    assert (released.adjacency_weight, released.palette_weight, released.extra_cells, released.show_target) == (
        1.0,
        0.25,
        "non_target",
        False,
    )
    assert rules(profile="comlrl", adjacency_weight=0.0, show_target=True).adjacency_weight == 0.0
    assert rules(profile="comlrl", show_target=True).show_target


@pytest.mark.parametrize(
    ("n", "settings", "message"),
    [
        (6, {}, "give task.palettes"),
        (2, {"palettes": [["stone"]]}, "1 palettes for 2 agents"),
        (1, {"palettes": [[]]}, "task.palettes.0 is empty"),
        (1, {"palettes": [["oak planks"]]}, "'oak planks' is not a block id"),
        (1, {"palettes": [["stone", "air"]]}, "air is always allowed"),
        (1, {"palettes": [["stone", "minecraft:stone"]]}, "twice"),
        (3, {"max_commands": 2}, "task.max_commands=2"),
        (1, {"coverage_weight": 0}, "task.coverage_weight"),
        (0, {}, "at least one agent"),
    ],
)
def test_settings_that_do_not_fit_are_named(n, settings, message):
    with pytest.raises(ConfigError, match=message):
        rules(n, **settings)


def test_six_agents_play_with_palettes_of_their_own():
    r = rules(6, palettes=[[f"minecraft:block_{i}"] for i in range(6)], max_commands=20)
    assert r.palettes[5] == ("block_5",)
    assert r.limits == (4, 4, 3, 3, 3, 3)
