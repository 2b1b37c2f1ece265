"""What each protocol tells whom, and when."""

from __future__ import annotations

import subprocess
import sys

import pytest

from collm.config.load import resolve
from collm.errors import ConfigError
from collm.evaluation.protocols import PROTOCOLS, TurnSettings, find_protocol, shaped

SEEN = {"a": "what a sees", "b": "what b sees", "c": "what c sees"}


def phases(name: str, history="full", rounds: int = 1) -> list[dict[str, str]]:
    """All phases of a turn in which agent x answers `x1`, then `x2` ..."""
    talk = PROTOCOLS[name].phases(SEEN, TurnSettings(history, rounds))
    found, times = [next(talk)], dict.fromkeys(SEEN, 0)
    while True:
        for agent in found[-1]:
            times[agent] += 1
        try:
            found.append(talk.send({agent: f"{agent}{times[agent]}" for agent in found[-1]}))
        except StopIteration:
            return found


@pytest.mark.parametrize("name", ["raw", "parallel"])
def test_independent_agents_are_told_what_they_see(name):
    assert phases(name) == [SEEN]


def test_a_pipeline_hands_on_what_earlier_agents_saw_and_answered():
    first, second, third = phases("pipeline")
    assert first == {"a": "what a sees"}
    turn = "Now it is your turn. Answer what you yourself were asked, so that it goes well with the answers above."
    of_a = "Before you, a was told in this turn:\nwhat a sees\n\na answered:\na1"
    of_b = "Before you, b was told in this turn:\nwhat b sees\n\nb answered:\nb1"
    assert second == {"b": f"what b sees\n\n{of_a}\n\n{turn}"}
    # b's input is what b itself saw: what it was told of a stands there once already.
    assert third == {"c": f"what c sees\n\n{of_a}\n\n{of_b}\n\n{turn}"}


def test_a_discussion_hands_everybody_the_others_answers():
    first, second, third = phases("discussion", rounds=2)
    assert first == SEEN
    again = "Compare this with your own answer. Then answer what you were asked once more, in full: only this answer counts."
    assert second["a"] == f"b answered:\nb1\n\nc answered:\nc1\n\n{again}"
    assert third["b"] == f"a answered:\na2\n\nc answered:\nc2\n\n{again}"
    assert len(phases("discussion")) == 2


def test_without_a_history_a_discussion_repeats_what_was_asked_and_said():
    assert phases("discussion", history="last")[1]["b"].startswith("what b sees\n\nYou answered:\nb1\n\na answered:\na1\n\n")


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(ConfigError, match="'discusion' is none of raw, parallel, pipeline, discussion; nearest: discussion"):
        find_protocol("discusion")
    assert find_protocol(None).name == "decentralized"


def test_raw_is_the_first_agent_and_one_turn():
    config = resolve("strbuild", overrides=["agents.0.temperature=0.5", "task.turns=3"])
    raw = shaped(config, PROTOCOLS["raw"])
    assert (raw.agents, raw.task.model_dump()["turns"]) == (config.agents[:1], 1)
    assert shaped(config, PROTOCOLS["pipeline"]) is config
    palettes = resolve("strbuild", overrides=["task.palettes=[[stone], [obsidian]]"])
    with pytest.raises(ConfigError, match=r"raw plays agents.0 alone, and task.palettes names 2 palettes for 1 agents"):
        shaped(palettes, PROTOCOLS["raw"])


@pytest.mark.parametrize("name", ["parallel", "pipeline", "discussion"])
def test_one_agent_is_no_team(name):
    config = resolve("strbuild", method="ac")
    with pytest.raises(ConfigError, match=f"{name} is how several agents work together and there is one; .* or use --protocol raw"):
        shaped(config, PROTOCOLS[name])
    assert len(shaped(config, PROTOCOLS["raw"]).agents) == 1
    assert shaped(config, find_protocol(None)) is config


def test_mistakes_are_told_without_torch():
    code = (
        "import sys; from collm.cli.main import app_main\n"
        "try: app_main(['eval', 'strbuild', '--protocol', 'pipelin'])\n"
        "except SystemExit as end: assert end.code == 2\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stderr=subprocess.DEVNULL, timeout=60)
