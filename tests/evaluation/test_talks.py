"""Protocols played by small models: who saw what, what was judged, and that histories only grow."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import pytest
from rollout_tools import WINDOW, make_team
from toy_envs import LettersEnv

from collm.evaluation.protocols import DECENTRALIZED, PROTOCOLS, Protocol, TurnSettings
from collm.evaluation.talks import JointTurn, Talks
from collm.models.text import ids_text
from collm.rollout.asking import RolloutCost
from collm.rollout.branch import EpisodePlan, RolloutSettings
from collm.rollout.collect import collect
from collm.types import Episode


def played(
    team, protocol: Protocol | None, env=LettersEnv, plans: int = 3, history="full", window: int = WINDOW, greedy=False, rounds: int = 1
) -> tuple[list[Episode], list[list[JointTurn]], RolloutCost]:
    talks = Talks(protocol, TurnSettings(history, rounds)) if protocol is not None else None
    with ThreadPoolExecutor(1) as executor:
        episodes, cost = collect(
            [EpisodePlan(f"e{i}", None, 50 + i) for i in range(plans)],
            env,
            team.policies,
            RolloutSettings(history, window, greedy=greedy, update=0, in_flight=2),
            executor,
            lambda: None,
            **({"answer": talks} if talks is not None else {}),
        )
    return episodes, [talks.turns[e.id] for e in episodes] if talks is not None else [], cost


def three(turns: int = 2) -> LettersEnv:
    return LettersEnv(n=3, turns=turns)


def as_read(team, agent: str, ids) -> str:
    return ids_text(team.policies[agent].chat.tokenizer, ids, special=False)


@pytest.mark.parametrize("protocol", [DECENTRALIZED, PROTOCOLS["parallel"]])
@pytest.mark.parametrize("history", ["full", "last"])
@pytest.mark.parametrize("greedy", [False, True])
def test_independent_agents_are_what_training_plays(protocol, history, greedy):
    team = make_team(3, history=history)
    plain, _, cost = played(team, None, three, history=history, greedy=greedy)
    told, turns, told_cost = played(team, protocol, three, history=history, greedy=greedy)
    for one, other in zip(plain, told, strict=True):
        assert [tr.turns for tr in one.transitions] == [tr.turns for tr in other.transitions]
        assert [tr.reward for tr in one.transitions] == [tr.reward for tr in other.transitions]
    assert [len(turn) for episode in turns for turn in episode] == [1] * 6
    assert (cost.inference_calls, cost.generated_tokens, cost.context_tokens) == (
        told_cost.inference_calls,
        told_cost.generated_tokens,
        told_cost.context_tokens,
    )


@pytest.mark.parametrize("history", ["full", "last"])
def test_later_agents_of_a_pipeline_read_what_earlier_ones_saw_and_said(history):
    team = make_team(3, history=history)
    episodes, turns, _ = played(team, PROTOCOLS["pipeline"], three, history=history)
    for episode, played_turns in zip(episodes, turns, strict=True):
        for tr, turn in zip(episode.transitions, played_turns, strict=True):
            assert [list(phase) for phase in turn] == [["agent_0"], ["agent_1"], ["agent_2"]]
            seen, said = ({a: getattr(t, what) for a, t in tr.turns.items()} for what in ("observation", "text"))
            for i, agent in enumerate(seen):
                message = turn[i][agent].message
                earlier = [f"Before you, {a} was told in this turn:\n{seen[a]}\n\n{a} answered:\n{said[a]}" for a in list(seen)[:i]]
                assert message.startswith("\n\n".join([seen[agent], *earlier]))
                assert message.count("Before you") == i
                # What the model read is that message, and never anything of itself or those after it.
                read = as_read(team, agent, tr.turns[agent].context_ids)
                assert message in read
                assert not any(f"{a} was told" in read or f"{a} answered" in read for a in list(seen)[i:])


def test_the_first_agent_of_a_pipeline_answers_as_if_alone():
    team = make_team(3)
    alone, _, _ = played(team, PROTOCOLS["parallel"], lambda: three(1))
    piped, _, _ = played(team, PROTOCOLS["pipeline"], lambda: three(1))
    for one, other in zip(alone, piped, strict=True):
        assert one.transitions[0].turns["agent_0"] == other.transitions[0].turns["agent_0"]
        assert one.transitions[0].turns["agent_2"].context_ids != other.transitions[0].turns["agent_2"].context_ids


@pytest.mark.parametrize("rounds", [1, 2])
def test_the_last_answers_of_a_discussion_are_judged(rounds):
    team = make_team(2, tokens=6)
    episodes, turns, cost = played(team, PROTOCOLS["discussion"], rounds=rounds)
    letters, differ = "abcdefghijklmnopqrstuvwxyz", 0
    for episode, played_turns in zip(episodes, turns, strict=True):
        for tr, turn in zip(episode.transitions, played_turns, strict=True):
            assert [list(phase) for phase in turn] == [["agent_0", "agent_1"]] * (rounds + 1)
            text = "".join(said.text for said in turn[-1].values())
            assert {a: t.text for a, t in tr.turns.items()} == {a: said.text for a, said in turn[-1].items()}
            assert tr.reward == sum(c in letters for c in text) / max(1, len(text))
            differ += text != "".join(said.text for said in turn[0].values())
            for a, other in (("agent_0", "agent_1"), ("agent_1", "agent_0")):
                for before, after in pairwise(turn):
                    assert after[a].message.startswith(f"{other} answered:\n{before[other].text}\n\nCompare this")
    assert differ >= 4
    assert cost.inference_calls == 3 * 2 * 2 * (rounds + 1)


@pytest.mark.parametrize("name", ["pipeline", "discussion"])
def test_histories_only_grow(name):
    team = make_team(2, window=2000)
    _, turns, _ = played(team, PROTOCOLS[name], lambda: LettersEnv(turns=3), window=2000)
    for episode in turns:
        for agent in ("agent_0", "agent_1"):
            calls = [phase[agent] for turn in episode for phase in turn if agent in phase]
            assert len(calls) == 3 * (2 if name == "discussion" else 1)
            for before, after in pairwise(calls):
                past = before.request.context_ids + before.generation.response_ids
                assert after.request.context_ids[: len(past)] == past


def test_without_history_a_call_reads_its_message_alone():
    team = make_team(2, history="last")
    _, turns, _ = played(team, PROTOCOLS["discussion"], history="last")
    for turn in turns[0]:
        for agent in ("agent_0", "agent_1"):
            for phase in turn:
                assert phase[agent].request.context_ids == team.policies[agent].chat.first(phase[agent].message)
            assert f"You answered:\n{turn[0][agent].text}" in turn[1][agent].message


@pytest.mark.parametrize("name", ["pipeline", "discussion"])
@pytest.mark.parametrize("lora", [False, True])
def test_caches_kept_over_phases_change_no_answer(name, lora):
    team = make_team(2, lora=lora, tokens=8)
    _, turns, _ = played(team, PROTOCOLS[name], plans=2)
    for said in (said for episode in turns for turn in episode for phase in turn for said in phase.values()):
        afresh = replace(said.request, key=("afresh",), before=None)
        assert team.policies[said.request.member].host.generate([afresh])[0].response_ids == said.generation.response_ids


def test_every_call_has_chance_of_its_own():
    _, turns, _ = played(make_team(2), PROTOCOLS["discussion"], rounds=3)
    seeds = [said.request.seed for episode in turns for turn in episode for phase in turn for said in phase.values()]
    assert len(set(seeds)) == len(seeds) == 3 * 2 * 2 * 4


def test_turns_that_no_longer_fit_are_dropped_and_counted():
    team = make_team(2, window=330)
    episodes, _, _ = played(team, PROTOCOLS["discussion"], lambda: LettersEnv(turns=3), window=330)
    for turn in (t for e in episodes for t in e.transitions[-1].turns.values()):
        assert turn.dropped_turns >= 1
        assert len(turn.context_ids) <= 330 - 4
