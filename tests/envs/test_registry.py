"""Environments by name and by import path; one-row scoring; contract checks."""

import sys

import numpy as np
import pytest

from collm.config.tasks import CustomTask, StrBuildTask
from collm.envs import check
from collm.envs.registry import make_env
from collm.envs.score import Scorer
from collm.envs.strbuild.env import StrBuildEnv
from collm.errors import ConfigError, DataError, EnvContractError

OWN = """
from pettingzoo import ParallelEnv

import own_words_{n}

class Guess(ParallelEnv):
    metadata = {{"name": "guess"}}

    def __init__(self, size=2, word="a"):
        self.possible_agents = [f"p{{i}}" for i in range(size)]
        self.word = word

    def reset(self, seed=None, options=None):
        self.agents = list(self.possible_agents)
        return {{a: "Say " + self.word for a in self.agents}}, {{a: {{}} for a in self.agents}}

    def step(self, actions):
        r = float(all(text == self.word for text in actions.values()))
        agents, self.agents = self.agents, []
        yes, no = dict.fromkeys(agents, True), dict.fromkeys(agents, False)
        return dict.fromkeys(agents, ""), dict.fromkeys(agents, r), yes, no, {{a: {{"metrics": {{"hit": r}}}} for a in agents}}

    def state(self):
        return {{"text": "", "features": [0.0]}}

class Nothing:
    possible_agents = ["p0", "p1"]

word = "a"
"""


@pytest.fixture
def own(tmp_path, monkeypatch, request):
    """A module of the user's own in the working directory, with a file it imports beside it."""
    n = abs(hash(request.node.name)) % 10**9
    name = f"own_env_{n}"
    (tmp_path / f"{name}.py").write_text(OWN.format(n=n))
    (tmp_path / f"own_words_{n}.py").write_text("")
    monkeypatch.chdir(tmp_path)
    return name


def test_built_in_by_name():
    env = make_env(StrBuildTask(), 3, "last")
    assert isinstance(env, StrBuildEnv)
    assert env.possible_agents == ["agent_0", "agent_1", "agent_2"]


def test_own_class_from_a_file_in_the_working_directory(own):
    before = list(sys.path)
    task = CustomTask(env=f"{own}:Guess", env_args={"size": 3, "word": "b"})
    env = make_env(task, 3, "full")
    assert sys.path == before
    assert env.reset()[0] == {"p0": "Say b", "p1": "Say b", "p2": "Say b"}
    result = Scorer(task).score({"task": {}, "responses": ["b", "b", "b"]})
    assert result == {"reward": 1.0, "metrics": {"hit": 1.0}, "terminated": True}


def test_own_class_may_stand_in_for_a_built_in_task(own):
    assert make_env(StrBuildTask(env=f"{own}:Guess"), 2, "full").possible_agents == ["p0", "p1"]


@pytest.mark.parametrize(
    ("path", "settings", "error", "message"),
    [
        ("no_such_module_x:Guess", {}, ConfigError, "cannot import 'no_such_module_x' .No module named"),
        ("{own}:Gues", {}, ConfigError, "has no 'Gues'; did you mean Guess"),
        ("{own}:word", {}, ConfigError, "is str, not a class"),
        ("{own}:Guess", {"siz": 2}, ConfigError, "task.env_args do not fit .*size.* unexpected keyword argument 'siz'"),
        ("{own}:Guess", {"size": 3}, EnvContractError, r"has 3 agents \(p0, p1, p2\) and the configuration lists 2"),
        ("{own}:Nothing", {}, EnvContractError, "made a Nothing without reset, step, state; .* ParallelEnv"),
    ],
)
def test_what_is_wrong_with_an_own_class_is_named(own, path, settings, error, message):
    with pytest.raises(error, match=message):
        make_env(CustomTask(env=path.format(own=own), env_args=settings), 2, "full")


def test_score_row():
    result = Scorer(StrBuildTask()).score({"task": {"string": "L"}, "responses": ["/setblock 0 4 0 stone", "/setblock 0 3 0 obsidian"]})
    assert result["reward"] == pytest.approx(4 / 9)
    assert result["metrics"]["coverage"] == pytest.approx(2 / 9)
    assert result["terminated"] is False
    cells = [(0, y) for y in range(1, 5)] + [(x, 0) for x in range(5)]
    whole = "\n".join(f"/setblock {x} {y} 0 {('stone', 'oak_planks')[(x + y) % 2]}" for x, y in cells)
    assert Scorer(StrBuildTask()).score({"task": {"string": "L"}, "responses": [whole]})["terminated"] is True


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([], "expected an object like"),
        ({"responses": ["a"]}, "field 'task' is missing .fields: responses"),
        ({"task": {"string": "L"}}, "field 'responses' is missing"),
        ({"task": "L", "responses": ["a"]}, "task: expected an object"),
        ({"task": {"strng": "L"}, "responses": ["a"]}, "field 'string' is missing .fields: strng"),
        ({"task": {"string": "L"}, "responses": []}, "responses: expected a list of texts"),
        ({"task": {"string": "L"}, "responses": "a"}, "responses: expected a list of texts"),
        ({"task": {"string": "L"}, "responses": ["a", None]}, "responses.1: expected text, got NoneType"),
    ],
)
def test_a_malformed_row_names_the_field(row, message):
    with pytest.raises(DataError, match=message):
        Scorer(StrBuildTask()).score(row)


def test_checks_pass_what_keeps_the_contract():
    assert check.check_observations({"b": "y", "a": "x", "common": 1}, ["a", "b"]) == {"a": "x", "b": "y"}
    assert check.shared_reward({"a": np.float32(0.5), "b": 0.5}) == 0.5
    assert check.joint_flag("terminations", {"a": np.bool_(True), "b": True}) is True
    assert check.step_metrics({"a": {"metrics": {"x": 1}}, "b": {"metrics": {"x": 1.0}}, "common": {}}) == {"x": 1.0}
    assert check.step_metrics({"a": {}}) == {}
    info = check.global_info({"text": "t", "features": [1, 2]})
    assert (info.text, info.features.dtype, info.features.tolist()) == ("t", np.float32, [1.0, 2.0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: check.check_observations({"a": "x"}, ["a", "b"]), "none for b .got: a"),
        (lambda: check.check_observations({"a": 1}, ["a"]), r"that of a is 1 \(int\)"),
        (lambda: check.check_observations("x", ["a"]), "observations: expected a dict"),  # type: ignore[arg-type]
        (lambda: check.shared_reward({"a": 1.0, "b": 0.5}), "one shared number, repeated for every agent; got a=1, b=0.5"),
        (lambda: check.shared_reward({}), "got none"),
        (lambda: check.shared_reward({"a": float("nan")}), r"that of a is nan \(float\)"),
        (lambda: check.shared_reward({"a": "1"}), "that of a is '1'"),
        (
            lambda: check.joint_flag("truncations", {"a": True, "b": False}),
            "truncations must be true for all agents or for none; got a=True",
        ),
        (lambda: check.joint_flag("terminations", {"a": None}), "terminations: that of a is None"),
        (lambda: check.step_metrics({"a": {"metrics": {"x": 1}}, "b": {"metrics": {"x": 2}}}), "the same for every agent"),
        (lambda: check.step_metrics({"a": {"metrics": {"x": "1"}}}), "metric 'x' of a is '1'"),
        (lambda: check.step_metrics({"a": None}), "infos of a: expected a dict"),
        (lambda: check.global_info(np.zeros(3)), "state: got"),
        (lambda: check.global_info({"text": 1, "features": []}), "text is 1"),
        (lambda: check.global_info({"text": "", "features": "x"}), "features are 'x'"),
        (lambda: check.global_info({"text": "", "features": [[1.0]]}), "shape .1, 1."),
        (lambda: check.global_info({"text": "", "features": [float("inf")]}), "finite"),
    ],
)
def test_checks_name_what_breaks_it(call, message):
    with pytest.raises(EnvContractError, match=message):
        call()
