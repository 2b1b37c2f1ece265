"""The scripted builders that the built-in models imitate: never the test houses, short enough, clearly improvable."""

import random
import sys
from pathlib import Path

import pytest

from collm.config.tasks import HouseBuildTask
from collm.envs.housebuild.blueprint import row_blueprint
from collm.envs.housebuild.houses import BUILT_IN_ROWS


@pytest.fixture(scope="module")
def demos():
    sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
    from tiny_models import demos_housebuild

    return demos_housebuild


def test_no_house_is_a_test_house_and_most_rectangles_fit(demos):
    rng = random.Random(0)
    rows = [demos.draw_row(rng) for _ in range(400)]
    layers = [[layer["rows"] for layer in row["target_spec"]["layers"]] for row in rows]
    assert not any([layer["rows"] for layer in row["target_spec"]["layers"]] in layers for row in BUILT_IN_ROWS[8:10])
    assert any([layer["rows"] for layer in BUILT_IN_ROWS[0]["target_spec"]["layers"]] == mine for mine in layers)  # of the same family
    assert len({str(mine) for mine in layers}) > 150
    assert max(len(row_blueprint(row).rectangles) for row in rows) <= 40


def test_demonstrations_are_the_same_for_the_same_seed(demos):
    first, second, other = (demos.housebuild_demonstrations(random.Random(seed), 4, careful=0.2) for seed in (5, 5, 6))
    assert first == second != other
    assert max(answer.count("\n") for dialogue in first for _, answer in dialogue) <= 33


@pytest.mark.parametrize(("careful", "low", "high"), [(0.0, 0.6, 0.9), (1.0, 1.3, 1.65)])
def test_noisy_builders_earn_about_a_third_and_careful_ones_most(demos, careful, low, high):
    rng = random.Random(1)
    rewards = []
    for _ in range(40):
        setting = demos.Setting(HouseBuildTask(), 2, "full", demos.draw_row(rng))
        rewards += demos.play(setting, rng, careful)[1]
    assert low < sum(rewards) / len(rewards) < high


def test_careful_builders_copy_their_share_and_strike_every_spider(demos):
    rng = random.Random(2)
    setting = demos.Setting(HouseBuildTask(), 2, "full", {**BUILT_IN_ROWS[0], "spiders": [1, 1, 1]})
    targets = {f"/fill {fill}" for fill in row_blueprint(BUILT_IN_ROWS[0]).rectangles}
    dialogues, rewards = demos.play(setting, rng, 1.0)
    for dialogue in dialogues:
        answers = [answer.split("\n") for _, answer in dialogue]
        assert answers[0][:2] == [demos.DAMAGE_LINE] * 2
        assert set(answers[0][2:]) <= targets
        assert all(set(lines) <= targets for lines in answers[1:])
    assert min(rewards) > 0.5
