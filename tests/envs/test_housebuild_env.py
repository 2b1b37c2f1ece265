"""HouseBuild as an environment: prompts, the six kinds of feedback, health, worlds, endings, contract."""

import copy
import itertools
import pickle
import warnings
from typing import get_args

import numpy as np
import pytest
from pettingzoo.test import parallel_api_test

from collm.config.tasks import HouseBuildTask
from collm.config.tasks.housebuild import HouseBuildFeedback
from collm.envs.base import Reseedable
from collm.envs.check import check_observations, global_info, joint_flag, shared_reward, step_details, step_metrics
from collm.envs.housebuild.blueprint import row_blueprint
from collm.envs.housebuild.env import HouseBuildEnv
from collm.envs.housebuild.feedback import band
from collm.envs.housebuild.houses import BUILT_IN_ROWS, House, house_row
from collm.envs.housebuild.plan import perfect_plan
from collm.envs.housebuild.rules import resolve_rules
from collm.envs.minecraft.fill import DAMAGE_LINE
from collm.errors import DataError, EnvContractError

HUT = {**house_row("hut", House("flat", width=4, depth=5, walls=1, roof_layers=0)), "spiders": [1, 3], "player_hp": 10}
"""12 concrete floor + 4 wall, 4 obsidian, 2 planks, 8 stairs, 12 bricks: 42 blocks and 18 cells of air."""
SPIDERS = {"spiders": [1, 3, 2], "player_hp": 5}
NOTHING = {"agent_0": "", "agent_1": ""}


def make(row=HUT, n=2, history="full", **settings):
    env = HouseBuildEnv(HouseBuildTask(**settings), n, history)
    observations, _ = env.reset(seed=0, options={"task": row})
    return env, observations


def plan_lines(row, n, **settings):
    plan = perfect_plan(row_blueprint(row), resolve_rules(HouseBuildTask(**settings), n))
    return {f"agent_{i}": "\n".join(fill.line for fill in fills) for i, fills in enumerate(plan)}


FIRST = """Build the house with 1 other agent. You are agent 2 of 2.
Answer with lines: /fill x1 y1 z1 x2 y2 z2 block
Box: x 0 to 3, y 0 to 2, z 0 to 4. At most 300 lines.
You may place at most: 12 white_concrete, 3 obsidian, 6 stone_stairs, 9 stone_bricks, 1 planks
Spiders attack every turn: 1, 3. Health 10.
Strike one with the line: /damage @e[type=spider,limit=1] 1 minecraft:player attack
Target, in the same form:
0 0 1 3 0 3 white_concrete
0 1 1 0 1 1 obsidian
1 1 1 2 1 1 planks
3 1 1 3 1 1 obsidian
0 1 2 0 1 2 white_concrete
3 1 2 3 1 2 white_concrete
0 1 3 0 1 3 obsidian
1 1 3 2 1 3 white_concrete
3 1 3 3 1 3 obsidian
0 2 0 3 2 0 stone_stairs
0 2 1 3 2 3 stone_bricks
0 2 4 3 2 4 stone_stairs"""

BUILT = """/fill 0 0 1 3 0 3 white_concrete
/fill 0 1 1 0 1 1 obsidian
/fill 1 1 1 1 1 1 planks
/fill 0 2 0 2 2 0 stone_stairs"""
"""17 of 42 right."""
WRONG = "/fill 3 1 1 3 1 1 planks\n/fill 1 1 2 1 1 2 obsidian"
"""A wrong block and an extra one."""


def told(feedback, **settings):
    env, _ = make(feedback=feedback, **settings)
    return env.step({"agent_0": BUILT, "agent_1": f"{WRONG}\n/kill"})[0]


HEAD = "Turn 2 of 4. Score 0.68 of 2.0.\nHealth 7. Spiders alive: 3.\n"  # 2 x 17/42 - 1.5 x 2/42 - 0.2 x 3/10
KEPT = "\nThe world is empty again: send all your lines."


def test_first_prompt():
    _, observations = make()
    assert observations["agent_1"] == FIRST
    assert observations["agent_0"] == FIRST.replace("agent 2 of 2", "agent 1 of 2")


def test_first_prompt_under_comlrl_in_a_persistent_world_and_alone():
    _, two = make(profile="comlrl")
    assert "Spiders attack every turn: 1, 3. Health 10.\nDrive them away with the line: /kill\n" in two["agent_0"]
    _, alone = make(n=1, profile="comlrl", world="persistent")
    assert alone["agent_0"].startswith("Build the house.\n")
    assert "3 planks, any air\nTarget, in the same form:" in alone["agent_0"]  # no spiders for one agent
    _, three = make(n=3, damage_command=False)
    assert "with 2 other agents. You are agent 1 of 3.\n" in three["agent_0"]
    assert "Strike one with the line: /kill\n" in three["agent_0"]
    assert "Spiders" not in make({**HUT, "spiders": []})[1]["agent_0"]


def test_score_feedback_is_score_and_health():
    assert told("score") == dict.fromkeys(NOTHING, f"{HEAD[:-1]}{KEPT}")


def test_under_comlrl_nothing_lasts_and_health_is_not_spoken_of():
    env, _ = make(profile="comlrl")
    observations, *_ = env.step(NOTHING)
    assert observations["agent_0"] == f"Turn 2 of 4. Score 0.26 of 1.0.{KEPT}"  # 18 of 60 cells are air, less 0.1 x 4/10


def test_position_feedback_lists_the_target_to_everyone():
    target = FIRST.split("in the same form:\n")[1]
    text = f"{HEAD}Build about half of these target rectangles:\n{target}{KEPT}"
    assert told("position") == {"agent_0": text, "agent_1": text}
    for n, share in ((1, "all"), (3, "about 1/3")):
        env, _ = make(n=n, feedback="position")
        assert f"Build {share} of these" in env.step(dict.fromkeys(env.agents, ""))[0]["agent_0"]


def test_position_modification_shows_the_first_wrong_cells_to_everyone():
    text = (
        f"{HEAD}Wrong cells: 26. The first 4 should be:\n2 1 1 2 1 1 planks\n3 1 1 3 1 1 obsidian\n0 1 2 0 1 2 white_concrete\n"
        f"1 1 2 1 1 2 air{KEPT}"
    )
    assert told("position_modification", shown_cells=4) == {"agent_0": text, "agent_1": text}
    assert told("position_modification")["agent_0"].count("\n") == 2 + 20 + 1


def test_perfect_feedback_tells_everyone_its_part_of_the_plan_and_the_last_agent_the_extras():
    told_ = told("perfect")
    plan = plan_lines(HUT, 2)
    assert plan["agent_0"].split("\n")[:2] == ["/fill 0 0 1 3 0 3 white_concrete", "/fill 2 1 1 2 1 1 planks"]
    for agent, text in told_.items():
        listed = text.removeprefix(f"{HEAD}Your wrong rectangles should be:\n").removesuffix(KEPT).split("\nThese cells")[0].split("\n")
        right = {"0 0 1 3 0 3 white_concrete", "0 1 1 0 1 1 obsidian", "1 1 1 1 1 1 planks"}
        assert listed == [line.removeprefix("/fill ") for line in plan[agent].split("\n") if line.removeprefix("/fill ") not in right]
    assert "should be empty" not in told_["agent_0"]
    assert told_["agent_1"].endswith(f"\nThese cells should be empty:\n1 1 2 1 1 2 air{KEPT}")


def test_rect_modification_gives_the_lower_wrong_rectangles_to_the_first_and_the_upper_to_the_last():
    told_ = told("rect_modification")
    assert told_["agent_0"] == (
        f"{HEAD}Wrong in your layers, y 0 to 1, should be:\n2 1 1 2 1 1 planks\n3 1 1 3 1 1 obsidian\n0 1 2 0 1 2 white_concrete\n"
        "1 1 2 1 1 2 air\n3 1 2 3 1 2 white_concrete\n0 1 3 0 1 3 obsidian\n1 1 3 2 1 3 white_concrete\n3 1 3 3 1 3 obsidian\n"
        f"Your accepted lines:\n{BUILT}{KEPT}"
    )
    assert told_["agent_1"] == (
        f"{HEAD}Wrong in your layers, y 2 to 2, should be:\n3 2 0 3 2 0 stone_stairs\n0 2 1 3 2 3 stone_bricks\n0 2 4 3 2 4 stone_stairs\n"
        f"Your accepted lines:\n/fill 3 1 1 3 1 1 planks\n/fill 1 1 2 1 1 2 obsidian\n/kill{KEPT}"
    )
    env, _ = make(n=5, feedback="rect_modification")
    texts = env.step(dict.fromkeys(env.agents, ""))[0]
    assert ["No layer is yours." in text for text in texts.values()] == [False, False, True, False, True]
    assert "None of your lines was accepted." in texts["agent_0"]


def test_bands_of_layers_part_the_box_without_overlap():
    tall = row_blueprint({**HUT, "bbox": {"from": [0, -3, 0], "to": [3, 10**12, 4]}})
    for n in (1, 2, 3, 7):
        bands = [band(tall, resolve_rules(HouseBuildTask(), n), agent) for agent in range(n)]
        assert bands[0][0] == -3
        assert bands[-1][1] == 10**12
        assert all(a[1] + 1 == b[0] for a, b in itertools.pairwise(bands))


def test_resource_schedule_lists_accepted_lines_what_is_left_and_what_still_fits():
    told_ = told("resource_schedule")
    assert told_["agent_0"] == (
        f"{HEAD}Your accepted lines:\n{BUILT}\n"
        "You could still place: 0 white_concrete, 2 obsidian, 3 stone_stairs, 9 stone_bricks, 0 planks\nOf the target these still fit:\n"
        f"3 1 1 3 1 1 obsidian\n0 1 3 0 1 3 obsidian{KEPT}"
    )
    assert "12 white_concrete, 2 obsidian, 6 stone_stairs, 9 stone_bricks, 0 planks\n" in told_["agent_1"]
    env, _ = make(n=1, feedback="resource_schedule")
    response = plan_lines(HUT, 1)["agent_0"] + "\n/fill 1 1 2 1 1 2 obsidian"
    assert "Nothing of the target is missing that fits." in env.step({"agent_0": response})[0]["agent_0"]


def test_feedback_on_a_finished_house_says_so():
    lines = plan_lines(HUT, 2)
    for mode, said in (
        ("perfect", "Your rectangles are right."),
        ("position_modification", "All cells are right."),
        ("rect_modification", "Nothing is wrong in your layers, y 0 to 1."),
    ):
        env, _ = make(feedback=mode, ends_when_built=False)
        assert said in env.step(lines)[0]["agent_0"]


def test_history_last_repeats_prompt_and_response_and_full_does_not():
    response = "/fill 0 0 0 0 0 0 air\nünïcode"
    for history, settings, repeats in (
        ("last", {}, (True, True)),
        ("last", {"original_prompt": False}, (False, True)),
        ("last", {"previous_response": False}, (True, False)),
        ("full", {}, (False, False)),
    ):
        env, first = make(history=history, **settings)
        text = env.step({**NOTHING, "agent_0": response})[0]["agent_0"]
        assert text.startswith("Turn 2 of 4. Score -0.08 of 2.0.\nHealth 6. Spiders alive: 1, 3.\n")
        assert (first["agent_0"] in text, text.endswith(f"Your previous response:\n{response}")) == repeats


def test_health_falls_over_the_turns_and_the_metric_averages_it():
    env, _ = make({**BUILT_IN_ROWS[0], "spiders": [1, 3, 2], "player_hp": 20})
    seen = []
    for strikes in (1, 0, 2, 0):
        _, rewards, *_, infos = env.step({**NOTHING, "agent_1": "\n".join([DAMAGE_LINE] * strikes)})
        metrics = infos["agent_0"]["metrics"]
        seen.append((metrics["damage"], metrics["spiders_alive"], round(metrics["hp"], 6), round(rewards["agent_0"], 6)))
    assert seen == [(5, 2, 0.75, -0.05), (5, 2, 0.625, -0.1), (0, 0, 0.583333, -0.1), (0, 0, 0.5625, -0.1)]


def test_details_tell_people_what_was_built_and_by_which_lines():
    env, _ = make()
    *_, infos = env.step({"agent_0": "junk\n- fill 1 1 1 0 1 1 minecraft:obsidian", "agent_1": "/kill all of them"})
    details = step_details(infos)
    target = details.pop("target")
    assert len(target) == 42
    assert [cell for cell in target if cell[3] == "planks"] == [[1, 1, 1, "planks"], [2, 1, 1, "planks"]]
    assert details == {
        "blocks": [[0, 1, 1, "obsidian"], [1, 1, 1, "obsidian"]],
        "accepted": [["/fill 0 1 1 1 1 1 obsidian"], ["/kill"]],
        "spiders": {"attacks": [1, 3], "alive": [1], "player_hp": 10, "health": 7.0},
    }
    assert set(step_metrics(infos)) == {
        "iou", "hp", "match", "coverage", "extra_ratio", "damage", "spiders_alive", "spider_penalty", "accepted_commands",
    }  # fmt: skip


def test_a_reset_world_forgets_and_a_persistent_one_keeps_and_may_be_cleared():
    for world, coverage in (("reset", 1 / 42), ("persistent", 2 / 42)):
        env, _ = make(world=world)
        env.step({**NOTHING, "agent_0": "/fill 0 1 1 0 1 1 obsidian"})
        *_, infos = env.step({**NOTHING, "agent_1": "/fill 3 1 1 3 1 1 obsidian"})
        assert infos["agent_0"]["metrics"]["coverage"] == pytest.approx(coverage)
    observations, *_, infos = env.step({**NOTHING, "agent_0": "/fill 0 0 0 3 2 4 air"})
    assert infos["agent_0"]["metrics"]["iou"] == 0.0
    assert observations["agent_0"].endswith("All blocks stay where they are.")
    env.step({**NOTHING, "agent_0": "/fill 0 1 1 0 1 1 obsidian"})
    env.reset(options={"task": HUT})
    assert env.step(NOTHING)[-1]["agent_0"]["metrics"]["coverage"] == 0.0


def test_later_agents_overwrite_and_each_has_its_own_limit():
    env, _ = make(max_commands=3)  # 2 and 1
    line = "/fill 0 0 1 3 0 3 "
    *_, infos = env.step({"agent_0": f"{line}white_concrete", "agent_1": "/fill 0 0 1 2 0 1 obsidian\n/kill"})
    metrics = infos["agent_0"]["metrics"]
    assert (metrics["accepted_commands"], metrics["spiders_alive"]) == (2, 2)
    assert metrics["coverage"] == pytest.approx(9 / 42)
    assert metrics["iou"] == pytest.approx(12 / 42)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_a_team_that_follows_the_plan_and_strikes_solves_the_task(n):
    env, _ = make({**BUILT_IN_ROWS[9], **SPIDERS}, n)
    lines = plan_lines(BUILT_IN_ROWS[9], n)
    lines["agent_0"] = "\n".join([DAMAGE_LINE] * 3 + [lines["agent_0"]])
    observations, rewards, terminations, truncations, infos = env.step(lines)
    assert set(rewards.values()) == {2.0}
    assert set(terminations.values()) == {True}
    assert set(truncations.values()) == {False}
    assert (infos["agent_0"]["metrics"]["iou"], infos["agent_0"]["metrics"]["hp"]) == (1.0, 1.0)
    assert observations["agent_0"] == "Finished after turn 1 of 4. Score 2.00 of 2.0."
    assert env.agents == []


def test_comlrl_never_terminates_and_the_turn_limit_truncates():
    env, _ = make({**BUILT_IN_ROWS[9], **SPIDERS}, profile="comlrl", turns=2)
    lines = plan_lines(BUILT_IN_ROWS[9], 2)
    lines["agent_1"] += "\n/kill"
    for last in (False, True):
        _, rewards, terminations, truncations, _ = env.step(lines)
        assert rewards["agent_0"] == 1.0
        assert not joint_flag("terminations", terminations)
        assert joint_flag("truncations", truncations) == last


def test_paper_draws_spiders_by_the_episodes_seed_and_comlrl_once_per_run():
    def attacks(seed, **settings):
        env = HouseBuildEnv(HouseBuildTask(**settings), 2)
        env.reset(seed=seed, options={"task": BUILT_IN_ROWS[0]})
        return tuple(env.step(NOTHING)[-1]["agent_0"]["details"]["spiders"]["attacks"])

    drawn = [attacks(seed) for seed in range(30)]
    assert drawn == [attacks(seed) for seed in range(30)]
    assert len(set(drawn)) > 10
    assert all(len(a) == 3 and set(a) <= {1, 2, 3} for a in drawn)
    assert len({attacks(seed, profile="comlrl") for seed in range(30)}) == 1
    assert len({attacks(0, profile="comlrl", spider_seed=seed) for seed in range(30)}) > 10
    assert attacks(0, spiders=5, spider_attack_min=4, spider_attack_max=4) == (4,) * 5


def test_state_is_turn_turns_and_last_reward_over_its_maximum():
    env, _ = make(turns=2, profile="comlrl")
    env.step({**NOTHING, "agent_0": "/kill"})
    state = env.state()
    assert state["text"] == "Turn 2 of 2. Last reward 0.30 of 1."
    np.testing.assert_allclose(state["features"], [1, 2, 18 / 60], rtol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("profile", ["paper", "comlrl"])
@pytest.mark.parametrize("feedback", get_args(HouseBuildFeedback))
def test_every_variant_keeps_the_contract(n, profile, feedback):
    world = "persistent" if n % 2 else "reset"
    env, observations = make(BUILT_IN_ROWS[6], n, "last", profile=profile, feedback=feedback, world=world)
    for turn in range(4):
        assert list(check_observations(observations, env.possible_agents)) == env.possible_agents
        assert all(env.observation_space(a).contains(text) for a, text in observations.items())
        actions = {a: f"/fill {i} {turn} 0 {i} {turn} 6 stone_bricks" for i, a in enumerate(env.agents)}
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
            parallel_api_test(HouseBuildEnv(HouseBuildTask(turns=2), n, "last"), num_cycles=10)


def test_without_a_row_the_seed_draws_house_and_spiders():
    def draw(seed):
        return HouseBuildEnv(HouseBuildTask(), 2).reset(seed=seed)[0]["agent_0"]

    assert [draw(s) for s in range(20)] == [draw(s) for s in range(20)]
    assert len({draw(s) for s in range(40)}) > 20


def test_copies_and_pickles_go_on_alike_and_apart():
    env, _ = make(history="last", world="persistent", feedback="resource_schedule")
    env.step({**NOTHING, "agent_0": "/fill 0 1 1 0 1 1 obsidian\n/kill"})
    twin, loaded = copy.deepcopy(env), pickle.loads(pickle.dumps(env))
    env.step({**NOTHING, "agent_0": "/fill 3 1 1 3 1 1 obsidian\n/kill"})
    actions = {**NOTHING, "agent_1": "/fill 0 1 3 0 1 3 obsidian"}
    assert twin.step(actions) == loaded.step(actions)
    *_, infos = twin.step(NOTHING)
    assert infos["agent_0"]["metrics"]["coverage"] == pytest.approx(2 / 42)
    assert infos["agent_0"]["metrics"]["spiders_alive"] == 1
    assert [twin.reset()[0] for _ in range(5)] == [loaded.reset()[0] for _ in range(5)]  # the generator is copied too


def test_steps_are_not_random_so_that_branches_need_no_reseeding():
    env, _ = make(BUILT_IN_ROWS[0])
    assert not isinstance(env, Reseedable)
    generator = env._rng.bit_generator.state
    env.step(NOTHING)
    assert env._rng.bit_generator.state == generator


def test_a_bad_row_is_refused():
    for row, message in (("hut", "task: expected an object"), ({**HUT, "player_hp": []}, "task, field 'player_hp'")):
        with pytest.raises(DataError, match=message):
            HouseBuildEnv(HouseBuildTask(), 2).reset(options={"task": row})


def test_misuse_is_named():
    env = HouseBuildEnv(HouseBuildTask(), 2)
    with pytest.raises(EnvContractError, match="HouseBuild: step was called with no episode running"):
        env.step(NOTHING)
