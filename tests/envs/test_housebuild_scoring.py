"""Commands, resources, spiders and score of HouseBuild (tasks.md section 3)."""

import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collm.config.tasks import HouseBuildTask
from collm.envs.housebuild.blueprint import row_blueprint
from collm.envs.housebuild.env import HouseBuildEnv
from collm.envs.housebuild.houses import BUILT_IN_ROWS
from collm.envs.housebuild.plan import perfect_plan
from collm.envs.housebuild.rules import resolve_rules
from collm.envs.housebuild.scoring import score_build, wrong_cells
from collm.envs.housebuild.spiders import Threat, draw_attacks, fight, meet, row_spiders
from collm.envs.minecraft.commands import Box, accepted_commands
from collm.envs.minecraft.fill import DAMAGE_LINE, Fill, fill_parser, run_fills
from collm.envs.score import Scorer
from collm.errors import ConfigError, DataError

BOX = Box((0, 0, 0), (5, 6, 6))


def rules(n=2, **settings):
    return resolve_rules(HouseBuildTask(**settings), n)


def accepted(text, damage=True, limit=300, **resources):
    parse = fill_parser(dict(resources or {"stone": 1000, "glass": 10}), BOX, damage)
    return [c.line for c in accepted_commands(text, parse, limit)]


@pytest.mark.parametrize(
    "line",
    [
        "/fill 1 2 3 4 2 5 stone",
        "fill 4 2 5 1 2 3 minecraft:stone",
        "- /FILL +1 02 ٣ 4 2 5 stone",
        "1. /fill 4 2 3 1 2 5 stone",
        "```mcfunction\n/fill 1 2 3 4 2 5 stone\n```",
    ],
)
def test_a_fill_is_accepted_with_its_corners_put_in_order(line):
    assert accepted(line) == ["/fill 1 2 3 4 2 5 stone"]


@pytest.mark.parametrize(
    "line",
    [
        "/fill 1 2 3 4 2 5",
        "/fill 1 2 3 4 2 5 stone replace",
        "/fill 1 2 3 4 2 5 stone air",
        "/fill 1 2 3 4 2 stone",
        "/fill 1 2 3 4 2 5 Stone",
        "/fill 1 2 3 4 2 5 dirt",
        "/fill 1.0 2 3 4 2 5 stone",
        "/fill ~ ~ ~ 4 2 5 stone",
        "/fill 1 2 3 6 2 5 stone",
        "/fill -1 2 3 4 2 5 stone",
        "/fill 1 2 3 4 2 7 stone",
        f"/fill 0 0 0 {10**40} 2 5 stone",
        f"/fill {'-' + '9' * 30} 0 0 {'9' * 30} 2 5 air",
        f"/fill {'9' * 5000} 0 0 1 2 5 stone",
        "/setblock 1 2 3 stone",
        "//fill 1 2 3 4 2 5 stone",
    ],
)
def test_a_fill_is_dropped(line):
    assert accepted(line) == []


@pytest.mark.parametrize(
    ("line", "paper", "comlrl"),
    [
        ("/kill", ["/kill"], ["/kill"]),
        ("kill @e[type=spider] and more", ["/kill"], ["/kill"]),
        ("- /KILL", ["/kill"], ["/kill"]),
        ("/ kill", ["/kill"], ["/kill"]),
        ("//kill", [], []),
        ("/killall", [], []),
        ("/say /kill", [], []),
        ("`/kill`", [], []),
        (DAMAGE_LINE, [DAMAGE_LINE], []),
        ("/damage @e[type=minecraft:spider,limit=1] 2.5 player attack", [DAMAGE_LINE], []),
        ("/damage @e[type=spider,limit=1] 4 minecraft:player attack now", [], []),
        ("/damage @e[type=spider,limit=1] minecraft:player attack", [], []),
        ("/damage @e[type=spider,limit=3] 4 minecraft:player attack", [], []),
        ("/damage @e[type=spider,limit=1] 0 minecraft:player attack", [], []),
        ("/damage @e[type=spider,limit=1] -1 minecraft:player attack", [], []),
        ("/damage @e[type=spider,limit=1] nan minecraft:player attack", [], []),
        ("/damage @e[type=spider,limit=1] inf minecraft:player attack", [], []),
        ("/damage @e[type=spider,limit=1] lots minecraft:player attack", [], []),
        ("/damage @p 4 minecraft:player attack", [], []),
    ],
)
def test_attacks(line, paper, comlrl):
    assert accepted(line) == paper
    assert accepted(line, damage=False) == comlrl


def test_a_fences_lone_first_word_is_a_tag_even_where_it_is_a_bare_kill():
    assert accepted("```\nkill\n/kill\n```") == ["/kill"]
    assert accepted("```kill\n/fill 0 0 0 0 0 0 stone\n```") == ["/fill 0 0 0 0 0 0 stone"]
    assert accepted("```\n/kill\n```") == ["/kill"]


def test_a_fill_is_charged_its_whole_volume_and_dropped_whole_where_it_would_pass_the_limit():
    text = "/fill 0 0 0 3 0 1 stone\n/fill 0 0 0 1 0 0 stone\n/fill 0 0 0 0 0 0 stone\n/fill 0 0 0 0 0 0 stone\n/fill 0 0 0 0 0 0 glass"
    assert accepted(text, stone=9, glass=0) == ["/fill 0 0 0 3 0 1 stone", "/fill 0 0 0 0 0 0 stone"]
    assert accepted("/fill 0 0 0 5 6 6 air\n" * 3, stone=0) == ["/fill 0 0 0 5 6 6 air"] * 3


def test_only_accepted_lines_count_and_a_kill_past_the_limit_does_not():
    text = "/fill 9 9 9 9 9 9 stone\n/fill 0 0 0 0 0 0 stone\n/kill\n/kill\n"
    assert accepted(text, limit=2) == ["/fill 0 0 0 0 0 0 stone", "/kill"]
    assert accepted(text, limit=1) == ["/fill 0 0 0 0 0 0 stone"]


@pytest.mark.parametrize(
    ("n", "limits"),
    [(1, (102, 18, 3)), (2, (51, 9, 1)), (3, (34, 6, 1)), (5, (20, 4, 1))],  # ceil(count / n) + floor(count / 2n)
)
def test_resource_limits_by_hand(n, limits):
    has = rules(n).resources(n - 1, row_blueprint(BUILT_IN_ROWS[0]).counts)
    assert (has["white_concrete"], has["obsidian"], has["planks"]) == limits


def test_palettes_keep_blocks_from_agents_and_slack_is_a_setting():
    counts = row_blueprint(BUILT_IN_ROWS[0]).counts
    r = rules(2, palettes=[["minecraft:obsidian", "gold_block"], ["planks"]], resource_slack=0)
    assert r.resources(0, counts) == {"obsidian": 6, "gold_block": 0}
    assert r.resources(1, counts) == {"planks": 1}


def test_later_fills_win_and_air_clears():
    world = {(5, 5, 5): "stone"}
    run_fills(world, [Fill((0, 0, 0), (2, 0, 0), "stone"), Fill((1, 0, 0), (1, 0, 0), "glass"), Fill((2, 0, 0), (3, 6, 6), "air")])
    assert world == {(5, 5, 5): "stone", (0, 0, 0): "stone", (1, 0, 0): "glass"}
    run_fills(world, [Fill((1, 0, 0), (1, 0, 1), "air"), Fill((-(10**30),) * 3, (10**30,) * 3, "air")])
    assert world == {}


@pytest.mark.parametrize("n", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("row", range(0, 10, 2))
def test_the_perfect_plan_builds_the_house_within_everybodys_resources(n, row):
    blueprint, r = row_blueprint(BUILT_IN_ROWS[row]), rules(n)
    world = {}
    for agent, fills in enumerate(perfect_plan(blueprint, r)):
        text = "\n".join(fill.line for fill in fills)
        commands = accepted_commands(text, fill_parser(r.resources(agent, blueprint.counts), blueprint.box, True), r.limits[agent])
        assert commands == list(fills)
        run_fills(world, commands)
    assert world == blueprint.cells
    score = score_build(world, blueprint, 0.0, r)
    assert (score.reward, score.built, score.iou, score.match) == (2.0, True, 1.0, 1.0)


def test_a_plan_leaves_out_what_nobody_has():
    blueprint = row_blueprint(BUILT_IN_ROWS[0])
    plan = perfect_plan(blueprint, rules(2, palettes=[["obsidian"], ["planks", "obsidian"]]))
    assert {fill.block for fills in plan for fill in fills} == {"obsidian", "planks"}
    assert sum(fill.volume for fills in plan for fill in fills if fill.block == "planks") == 1


def test_the_papers_score_by_hand():
    blueprint = row_blueprint(BUILT_IN_ROWS[0])  # 172 blocks, 122 cells of air
    world = {(0, 0, 1): "white_concrete", (1, 0, 1): "obsidian", (0, 0, 0): "planks"}
    score = score_build(world, blueprint, 0.6, rules())
    assert score.coverage == pytest.approx(1 / 172)
    assert score.extra_ratio == pytest.approx(2 / 172)
    assert score.reward == pytest.approx(2 / 172 - 1.5 * 2 / 172 - 0.2 * 0.6)
    assert score.iou == pytest.approx(2 / 173)
    assert score.match == pytest.approx((121 + 1) / 294)
    assert score_build(world, blueprint, 0.6, rules(profile="comlrl")).reward == pytest.approx(122 / 294 - 0.06)
    own = rules(score="match", match_weight=3, spider_weight=1)
    assert score_build(world, blueprint, 0.5, own).reward == pytest.approx(3 * 122 / 294 - 0.5)


@given(st.dictionaries(st.tuples(st.integers(0, 5), st.integers(0, 6), st.integers(0, 6)), st.sampled_from(["obsidian", "planks"])))
def test_score_stays_in_its_bounds_and_wrong_cells_are_what_is_missing(world):
    blueprint = row_blueprint(BUILT_IN_ROWS[8])
    score, wrong = score_build(world, blueprint, 0.0, rules()), wrong_cells(world, blueprint)
    assert score.reward <= 2.0
    assert 0 <= score.iou <= 1
    assert score.match == pytest.approx(1 - len(wrong) / 294)
    run_fills(world, [Fill(cell, cell, block) for cell, block in wrong.items()])
    assert score_build(world, blueprint, 0.0, rules()).built
    assert wrong_cells(world, blueprint) == {}


def test_damage_adds_up_over_turns_and_dead_spiders_stay_dead():
    r = rules(spider_hp=2).spiders
    battle = meet(Threat((1, 3, 2), 20), r)
    seen = []
    for strikes in (3, 0, 1, 5):
        battle = fight(battle, strikes, r)
        seen.append((battle.turn_damage, battle.health_left, battle.living, battle.lost))
    assert seen == [(5, 15, (1, 2), 0.25), (5, 10, (1, 2), 0.5), (2, 8, (2,), 0.6), (0, 8, (), 0.6)]
    assert battle.health == pytest.approx((15 + 10 + 8 + 8) / 80)


def test_under_comlrl_any_attack_drives_all_away_and_every_turn_starts_anew():
    r = rules(profile="comlrl").spiders
    battle = meet(Threat((1, 3, 2), 5), r)
    lost = []
    for strikes in (0, 1, 0):
        battle = fight(battle, strikes, r)
        lost.append(battle.lost)
    assert lost == [1.0, 0.0, 1.0]
    assert battle.health == pytest.approx(1 / 3)


@pytest.mark.parametrize(("attacks", "hp", "lost"), [((1, 1), 5, 0.4), ((3, 3), 5, 1.0), ((1,), 0, 0.0), ((2,), -3, 0.0), ((), 5, 0.0)])
def test_the_share_lost_is_capped_and_none_where_there_is_no_health(attacks, hp, lost):
    r = rules().spiders
    assert fight(meet(Threat(attacks, hp), r), 0, r).lost == pytest.approx(lost)


def test_attacks_are_uniform_integers_within_their_range():
    r = rules(spiders=3000).spiders
    drawn = draw_attacks(np.random.default_rng(0), r)
    assert set(drawn) == {1, 2, 3}
    assert all(abs(drawn.count(a) - 1000) < 120 for a in (1, 2, 3))  # 4.6 standard deviations


def test_no_spiders_for_one_agent_under_comlrl():
    assert rules(1, profile="comlrl").spiders is None
    assert rules(1).spiders is not None


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"spiders": 3}, "field 'spiders': expected a list"),
        ({"spiders": [1, "2"]}, "spiders.1': got '2'"),
        ({"spiders": [True]}, "spiders.0'"),
        ({"spiders": [10**400]}, "spiders.0'"),
        ({"spiders": [float("nan")]}, "spiders.0'"),
        ({"player_hp": "5"}, "player_hp': got '5'"),
        ({"player_hp": -(10**9)}, "player_hp'"),
    ],
)
def test_spiders_that_cannot_be_are_refused(row, message):
    with pytest.raises(DataError, match=message):
        row_spiders(row)


@pytest.mark.parametrize(("name", "count"), [("housebuild", 308), ("housebuild_rpg", 24)])
def test_comlrl_reproduces_every_recorded_row(shared, name, count):
    rows = [json.loads(line) for line in (shared / "oracles" / f"{name}.public.jsonl").read_text(encoding="utf-8").split("\n") if line]
    scorer = Scorer(HouseBuildTask(profile="comlrl", data=str(shared / "data" / "minecraft" / "data.json")))
    for row in rows:
        task = {"task_id": row["task_id"], "spiders": row["spider_atk"], "player_hp": row["player_hp"]}
        result = scorer.score({"task": task, "responses": [row["completion1"], row["completion2"]]})
        assert result["reward"] == pytest.approx(row["reward"], abs=1e-9), row
        for metric in ("match", "iou", "spider_penalty"):
            assert result["metrics"][metric] == pytest.approx(row[metric], abs=1e-9), (metric, row)
        assert result["metrics"]["accepted_commands"] == row["accepted1"] + row["accepted2"], row
    assert len(rows) == count


def test_the_trap_doing_nothing_under_comlrl_scores_well_and_under_paper_nothing():
    idle = {"responses": ["", "/kill"]}
    for profile, low, high in (("comlrl", 0.29, 0.50), ("paper", -0.2, 0.0)):
        scorer = Scorer(HouseBuildTask(profile=profile))
        rewards = [scorer.score({"task": {"task_id": row["task_id"]}, **idle})["reward"] for row in BUILT_IN_ROWS]
        assert low <= min(rewards) <= max(rewards) <= high
    assert min(rewards) < 0


def test_score_rows_name_a_blueprint_or_bring_one():
    scorer = Scorer(HouseBuildTask())
    named = {"task_id": "house_build_0104", "spiders": [1, 3], "player_hp": 8}
    whole = {**BUILT_IN_ROWS[4], "spiders": [1, 3], "player_hp": 8}
    results = [scorer.score({"task": task, "responses": ["/fill 0 0 1 5 0 5 white_concrete", "/kill"]}) for task in (named, whole)]
    assert results[0] == results[1]
    assert results[0]["reward"] == pytest.approx(2 * 30 / 148 - 0.2 * 3 / 8)  # the first spider, attack 1, is struck
    assert results[0]["metrics"]["hp"] == pytest.approx(5 / 8)
    with pytest.raises(DataError, match="field 'spider' is not known"):
        scorer.score({"task": {"task_id": "house_build_0104", "spider": []}, "responses": [""]})
    with pytest.raises(DataError, match='no row has task_id "nope"'):
        scorer.score({"task": {"task_id": "nope"}, "responses": [""]})


@pytest.mark.parametrize(
    ("n", "settings", "message"),
    [
        (0, {}, "at least one agent"),
        (3, {"max_commands": 2}, "task.max_commands=2"),
        (2, {"palettes": [["stone"]]}, "1 palettes for 2 agents"),
        (1, {"palettes": [[]]}, "task.palettes.0 is empty"),
        (1, {"palettes": [["air"]]}, "air is always allowed"),
        (1, {"palettes": [["oak planks"]]}, "'oak planks' is not a block id"),
        (1, {"palettes": [["stone", "minecraft:stone"]]}, "twice"),
        (1, {"coverage_weight": 0}, "task.coverage_weight=0"),
        (1, {"profile": "comlrl", "match_weight": -1}, "task.match_weight=-1"),
    ],
)
def test_settings_that_do_not_fit_are_named(n, settings, message):
    with pytest.raises(ConfigError, match=message):
        rules(n, **settings)


def test_an_attack_range_upside_down_is_refused():
    with pytest.raises(ValueError, match="spider_attack_min=3 is above spider_attack_max=2"):
        HouseBuildTask(spider_attack_min=3, spider_attack_max=2)


def test_settings_win_over_the_profile():
    r = rules(1, profile="comlrl", spiders_min_agents=1, kill_reach="one", damage_command=True, spiders_last=True, score="coverage")
    assert (r.spiders.reach, r.spiders.last, r.damage_command, r.score) == ("one", True, True, "coverage")
    assert rules(spider_draw="run", spider_seed=7).spiders.seed == 7
    assert rules(profile="comlrl", spider_draw="episode").spiders.seed is None
    assert rules(ends_when_built=False).ends_when_built is False


PIECES = st.sampled_from(
    ["/", "fill", "FILL", "/fill 0 0 1 5 0 5 ", "kill", "/damage @e[type=spider,limit=1] ", " minecraft:player attack", " ", "\n", "\t",
     "```", "- ", "1. ", "0", "1 ", "-2", "+3", "٣", str(10**30), "obsidian", "minecraft:", "air", "planks\n", "\x1c", "\x00", "\ud800"]
)  # fmt: skip
TEXTS = st.one_of(st.text(), st.lists(PIECES, max_size=60).map("".join))


@settings(max_examples=200, deadline=None)
@given(st.lists(TEXTS, min_size=2, max_size=2), st.sampled_from(["reset", "persistent"]))
def test_no_text_raises_and_what_stands_is_within_box_and_resources(texts, world):
    env = HouseBuildEnv(HouseBuildTask(world=world, feedback="resource_schedule"), 2)
    env.reset(seed=0, options={"task": BUILT_IN_ROWS[8]})
    counts = row_blueprint(BUILT_IN_ROWS[8]).counts
    *_, infos = env.step(dict(zip(env.agents, texts, strict=True)))
    blocks = infos["agent_0"]["details"]["blocks"]
    assert all((x, y, z) in BOX for x, y, z, _ in blocks)
    for block, count in counts.items():
        assert sum(b == block for *_, b in blocks) <= 2 * (-(-count // 2) + count // 4)


@pytest.mark.parametrize(
    "piece",
    [
        "/fill 0 0 0 5 6 6 air\n",
        "/fill 0 0 1 5 0 5 white_concrete\n",
        "/fill 0 0 0 " + "9" * 4000 + " 0 0 obsidian\n",
        DAMAGE_LINE.replace(" 1 ", " " + "9" * 5000 + " ") + "\n",
        "-*" * 500 + "\n",
        "1" * 500,
        "```",
        " ",
        "/kill ",
    ],
)
def test_time_is_linear_in_the_length_of_a_response(piece):
    env = HouseBuildEnv(HouseBuildTask(turns=100), 2)
    env.reset(seed=0)

    def seconds(length):
        text = piece * (length // len(piece))
        best = float("inf")
        for _ in range(3):
            start = time.process_time()
            env.step(dict.fromkeys(env.agents, text))
            best = min(best, time.process_time() - start)
        return best

    short, long = seconds(100_000), seconds(800_000)
    assert long < 24 * short + 0.05  # linear: 8 times, quadratic: 64 times
