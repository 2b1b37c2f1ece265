"""StrBuild as an environment: prompts, feedback, worlds, endings, contract."""

import copy
import pickle
import warnings

import numpy as np
import pytest
from pettingzoo.test import parallel_api_test

from collm.config.tasks import StrBuildTask
from collm.envs.check import check_observations, global_info, joint_flag, shared_reward, step_metrics
from collm.envs.strbuild.env import StrBuildEnv
from collm.envs.strbuild.feedback import owner, perfect_plan, render_rows
from collm.envs.strbuild.glyphs import lay_out
from collm.envs.strbuild.rules import resolve_rules
from collm.envs.strbuild.scoring import score_build, texture
from collm.errors import DataError, EnvContractError


def make(string="L", n=2, history="full", **settings):
    env = StrBuildEnv(StrBuildTask(**settings), n, history)
    observations, _ = env.reset(seed=0, options={"task": {"string": string}})
    return env, observations


def place(cells, block):
    return "\n".join(f"/setblock {x} {y} 0 {block}" for x, y in cells)


def checkerboard(string):
    cells = sorted(lay_out(string).cells)
    return {
        "agent_0": place([c for c in cells if sum(c) % 2 == 0], "stone"),
        "agent_1": place([c for c in cells if sum(c) % 2], "obsidian"),
    }


NOTHING = {"agent_0": "", "agent_1": ""}

FIRST = """Build the string LI with 1 other agent. You are agent 2 of 2.
Your blocks: white_concrete, obsidian
Answer with lines: /setblock x y z block
Box: x 0 to 11, y 0 to 4, z 0. At most 150 lines.
Do not build outside the target. Cells that share a side should differ in texture.
Target, top row first, with the x of its cells:
y=4 #......##### x 0 7 8 9 10 11
y=3 #........#.. x 0 9
y=2 #........#.. x 0 9
y=1 #........#.. x 0 9
y=0 #####..##### x 0 1 2 3 4 7 8 9 10 11"""


def test_first_prompt():
    _, observations = make("LI")
    assert observations["agent_1"] == FIRST
    assert "You are agent 1 of 2.\nYour blocks: oak_planks, stone\n" in observations["agent_0"]


def test_comlrl_hides_the_grid_in_turn_1_and_asks_for_whole_palettes():
    env, observations = make("LI", profile="comlrl")
    assert "#" not in observations["agent_0"]
    assert "5 wide and 5 high with 2 empty columns" in observations["agent_0"]
    assert "Use each of your blocks." in observations["agent_0"]
    later, *_ = env.step(NOTHING)
    assert "y=4 x 0 7 8 9 10 11" in later["agent_0"]


@pytest.mark.parametrize(("n", "team"), [(1, "Build the string L.\n"), (3, "L with 2 other agents. You are agent 1 of 3.\n")])
def test_first_prompt_names_the_team(n, team):
    assert team in make("L", n)[1]["agent_0"]


def test_position_feedback_lists_all_target_cells_to_everyone():
    env, _ = make("L")
    observations, *_ = env.step({**NOTHING, "agent_0": place([(0, 4), (0, 3)], "stone")})
    told = (
        "Turn 2 of 4. Score -0.06 of 2.0.\nChoose about half of these target cells, no two sharing a side:\n"
        "y=4 x 0\ny=3 x 0\ny=2 x 0\ny=1 x 0\ny=0 x 0 1 2 3 4\nThe world is empty again: send all your lines."
    )
    assert observations == {"agent_0": told, "agent_1": told}


@pytest.mark.parametrize(
    ("n", "ask"), [(1, "Build all of these"), (2, "Choose about half of"), (3, "Choose about 1/3 of"), (5, "Choose about 1/5 of")]
)
def test_position_feedback_asks_for_the_agents_share(n, ask):
    env, _ = make("L", n)
    observations, *_ = env.step(dict.fromkeys(env.agents, ""))
    assert ask in observations["agent_0"]


def test_score_feedback_is_the_score_alone():
    env, _ = make("L", feedback="score")
    observations, *_ = env.step(NOTHING)
    assert observations["agent_0"] == "Turn 2 of 4. Score 0.00 of 2.0.\nThe world is empty again: send all your lines."


def test_perfect_feedback_tells_every_agent_its_cells_and_the_last_one_the_extras():
    env, _ = make("L", feedback="perfect")
    mine = place([(0, 4), (0, 2), (0, 0), (2, 0)], "oak_planks")
    theirs = place([(0, 3), (0, 1), (1, 0)], "white_concrete") + "\n" + place([(3, 0), (3, 3)], "obsidian")
    observations, *_ = env.step({"agent_0": mine, "agent_1": theirs})
    kept = "The world is empty again: send all your lines."
    assert observations["agent_0"] == f"Turn 2 of 4. Score 1.61 of 2.0.\nYour wrong cells should be:\noak_planks\ny=0 x 4\n{kept}"
    assert observations["agent_1"] == (
        "Turn 2 of 4. Score 1.61 of 2.0.\nYour wrong cells should be:\nobsidian\ny=3 x 0\ny=1 x 0\ny=0 x 1\n"
        f"These cells should be empty:\ny=3 x 3\n{kept}"
    )


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_following_the_perfect_plan_solves_the_task(n):
    rules = resolve_rules(StrBuildTask(), n)
    for string in ("ICML", "CLIM", "QUARTZ"):
        plan = perfect_plan(lay_out(string), rules)
        assert score_build(plan, lay_out(string), rules).reward == pytest.approx(2.0)
        assert all(block in rules.palettes[owner(cell, rules)] for cell, block in plan.items())


def test_the_plan_keeps_the_palettes_first_choice_where_no_block_differs():
    rules = resolve_rules(StrBuildTask(palettes=[["stone", "cobblestone"]]), 1)
    plan = perfect_plan(lay_out("L"), rules)
    assert plan[0, 0] == "stone"
    assert plan[1, 0] == "cobblestone"
    assert {texture(block) for block in plan.values()} == {"stone"}


def test_history_last_repeats_prompt_and_response_and_full_does_not():
    response = "/setblock 0 4 0 stone\nünïcode"
    for history, settings, repeats in (
        ("last", {}, (True, True)),
        ("last", {"original_prompt": False}, (False, True)),
        ("last", {"previous_response": False}, (True, False)),
        ("full", {}, (False, False)),
    ):
        env, first = make("L", history=history, **settings)
        observations, *_ = env.step({**NOTHING, "agent_0": response})
        text = observations["agent_0"]
        assert text.startswith("Turn 2 of 4. Score 0.22 of 2.0.")
        assert (first["agent_0"] in text, text.endswith(f"Your previous response:\n{response}")) == repeats
        assert response not in observations["agent_1"]
        if all(repeats):
            assert text.index("Choose about half") < text.index(first["agent_0"]) < text.index("Your previous response")


def test_render_rows_serves_both_forms():
    assert render_rows([(2, 1), (0, 1), (1, 0)]) == ["y=1 x 0 2", "y=0 x 1"]
    assert render_rows([(2, 1), (0, 1)], 3) == ["y=4 ... x", "y=3 ... x", "y=2 ... x", "y=1 #.# x 0 2", "y=0 ... x"]


def test_a_reset_world_forgets_and_a_persistent_one_keeps():
    for world, coverage in (("reset", 1 / 9), ("persistent", 2 / 9)):
        env, _ = make("L", world=world)
        env.step({**NOTHING, "agent_0": "/setblock 0 4 0 stone"})
        *_, infos = env.step({**NOTHING, "agent_1": "/setblock 0 3 0 obsidian"})
        assert infos["agent_0"]["metrics"]["coverage"] == pytest.approx(coverage)


def test_a_persistent_world_offers_air_and_says_so():
    env, observations = make("L", world="persistent", feedback="perfect")
    assert "Your blocks: oak_planks, stone, air" in observations["agent_0"]
    observations, *_ = env.step({**NOTHING, "agent_0": "/setblock 2 2 0 stone"})
    assert "Set these cells to air:\ny=2 x 2\nAll blocks stay where they are." in observations["agent_1"]
    *_, infos = env.step({**NOTHING, "agent_1": "/setblock 2 2 0 air"})
    assert infos["agent_0"]["metrics"]["extra_ratio"] == 0.0
    env.reset(options={"task": {"string": "L"}})
    *_, infos = env.step(NOTHING)
    assert infos["agent_0"]["metrics"]["coverage"] == 0.0


def test_later_agents_overwrite_and_each_has_its_own_limit_and_palette():
    env, _ = make("L", max_commands=3)  # 2 and 1
    cells = [(0, 0), (1, 0), (2, 0)]
    *_, infos = env.step({"agent_0": place(cells, "stone"), "agent_1": "/setblock 4 0 0 stone\n" + place(cells, "obsidian")})
    metrics = infos["agent_0"]["metrics"]
    assert metrics["accepted_commands"] == 3
    assert metrics["coverage"] == pytest.approx(2 / 9)
    assert metrics["adjacency"] == 0.0  # obsidian over stone at x = 0, stone at x = 1


def test_solved_terminates_and_the_turn_limit_truncates():
    env, _ = make("ICML")
    _, rewards, terminations, truncations, infos = env.step(checkerboard("ICML"))
    assert rewards == {"agent_0": 2.0, "agent_1": 2.0}
    assert terminations == {"agent_0": True, "agent_1": True}
    assert truncations == {"agent_0": False, "agent_1": False}
    assert (infos["agent_1"]["metrics"]["iou"], infos["agent_1"]["metrics"]["adjacency"]) == (1.0, 0.0)
    assert env.agents == []
    env, _ = make("ICML", turns=1)
    observations, _, terminations, truncations, _ = env.step(NOTHING)
    assert truncations["agent_0"]
    assert not terminations["agent_0"]
    assert observations["agent_0"] == "Finished after turn 1 of 1. Score 0.00 of 2.0."
    env, _ = make("ICML", turns=1)
    _, _, terminations, truncations, _ = env.step(checkerboard("ICML"))
    assert terminations["agent_0"]
    assert not truncations["agent_0"]


def test_state_is_turn_turns_and_last_reward_over_its_maximum():
    env, _ = make("L", turns=2)
    assert env.state()["text"] == "Turn 1 of 2. Last reward 0.00 of 1."
    env.step({**NOTHING, "agent_0": "/setblock 0 4 0 stone"})
    state = env.state()
    assert state["text"] == "Turn 2 of 2. Last reward 0.11 of 1."
    assert state["features"].dtype == np.float32
    np.testing.assert_allclose(state["features"], [1, 2, 1 / 9], rtol=1e-6)
    env.step(NOTHING)
    assert env.state()["text"] == "Finished after turn 2 of 2. Last reward 0.00 of 1."


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("world", ["reset", "persistent"])
@pytest.mark.parametrize("feedback", ["position", "perfect", "score"])
def test_every_variant_keeps_the_contract(n, world, feedback):
    env, observations = make("CM", n, "last", world=world, feedback=feedback)
    blocks = ("stone", "obsidian", "glass", "red_wool", "glowstone")
    for turn in range(4):
        assert list(check_observations(observations, env.possible_agents)) == env.possible_agents
        assert all(env.observation_space(a).contains(text) for a, text in observations.items())
        actions = {a: f"/setblock {i} {turn} 0 {blocks[i]}" for i, a in enumerate(env.agents)}
        observations, rewards, terminations, truncations, infos = env.step(actions)
        assert shared_reward(rewards) <= 2.0
        assert step_metrics(infos)["accepted_commands"] == n
        assert not joint_flag("terminations", terminations)
        assert joint_flag("truncations", truncations) == (turn == 3)
        assert global_info(env.state()).features.shape == (3,)


def test_pettingzoo_api():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n in (1, 3):
            parallel_api_test(StrBuildEnv(StrBuildTask(turns=2), n, "last"), num_cycles=10)


def test_without_a_row_the_seed_draws_a_built_in_string():
    def draw(seed):
        return StrBuildEnv(StrBuildTask(), 2, "full").reset(seed=seed)[0]["agent_0"]

    assert [draw(s) for s in range(20)] == [draw(s) for s in range(20)]
    assert len({draw(s) for s in range(40)}) > 5


def test_copies_and_pickles_go_on_alike_and_apart():
    env, _ = make("LI", history="last", world="persistent")
    env.step({**NOTHING, "agent_0": "/setblock 0 4 0 stone"})
    twin, loaded = copy.deepcopy(env), pickle.loads(pickle.dumps(env))
    env.step({**NOTHING, "agent_0": "/setblock 0 3 0 stone"})
    actions = {**NOTHING, "agent_1": "/setblock 0 2 0 obsidian"}
    assert twin.step(actions) == loaded.step(actions)
    assert twin.step(NOTHING)[4]["agent_0"]["metrics"]["coverage"] == pytest.approx(2 / 22)
    assert [twin.reset()[0] for _ in range(5)] == [loaded.reset()[0] for _ in range(5)]  # the generator is copied too


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"string": ""}, "task, field 'string': the string is empty"),
        ({"text": "I"}, r"'string' is missing \(fields: text\)"),
        ("ICML", "expected a row"),
    ],
)
def test_a_bad_row_is_refused(row, message):
    with pytest.raises(DataError, match=message):
        StrBuildEnv(StrBuildTask(), 2, "full").reset(options={"task": row})


def test_misuse_is_named():
    env = StrBuildEnv(StrBuildTask(), 2, "full")
    with pytest.raises(EnvContractError, match="call reset first"):
        env.step(NOTHING)
    env.reset(seed=0)
    with pytest.raises(EnvContractError, match="no action for agent_1"):
        env.step({"agent_0": ""})
    with pytest.raises(EnvContractError, match="agent_0 is int"):
        env.step({"agent_0": 3, "agent_1": ""})  # type: ignore[dict-item]
    with pytest.raises(EnvContractError, match="no agent 'agent_7'"):
        env.action_space("agent_7")
