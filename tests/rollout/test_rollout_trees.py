"""Rollout trees as they are really played: counts, histories, caches, chance, early ends, greedy baselines, what is written."""

from __future__ import annotations

import itertools
import json
from collections import Counter

import numpy as np
import pytest
import torch
from rollout_tools import WINDOW, make_team, play
from toy_envs import LettersEnv

from collm.config.schema import AgentConfig, Config, LoraConfig
from collm.models.host_batch import HostBatch
from collm.models.team import build_team
from collm.rollout.branch import TreeShape
from collm.rollout.describe import describe
from collm.types import Episode, JointTransition


def depth(episode: Episode, turn: int, greedy: bool = False) -> list[JointTransition]:
    return [tr for tr in episode.transitions if tr.turn == turn and tr.greedy == greedy]


def env_of(n: int, turns: int, **more):
    return lambda: LettersEnv(n, turns, **more)


# -- counts --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "k", "horizon"), [(1, 2, 3), (2, 2, 3), (3, 2, 2), (2, 3, 2), (1, 4, 2), (2, 1, 3)])
def test_an_aligned_tree_is_full_and_costs_what_the_paper_says(n, k, horizon):
    (episode,), cost = play(make_team(n), TreeShape(k), env_of(n, horizon))
    assert [len(depth(episode, t)) for t in range(horizon)] == [k ** (t + 1) for t in range(horizon)]
    nodes = sum(k**t for t in range(horizon))
    assert cost.inference_calls == n * k * nodes
    if k > 1:
        assert cost.inference_calls == n * k * (k**horizon - 1) // (k - 1)
        # Aligned: sample k of every agent together.
        assert {tuple(tr.picks.values()) for tr in episode.transitions} == {(j,) * n for j in range(k)}
    else:
        assert all(tr.picks == {} for tr in episode.transitions)
    assert Counter(tr.node for tr in episode.transitions) == dict.fromkeys(
        [-1, *(i for i, tr in enumerate(episode.transitions) if tr.turn < horizon - 1)], k
    )
    assert all(len(tr.turns) == n for tr in episode.transitions)


@pytest.mark.parametrize(("n", "k", "horizon"), [(2, 2, 2), (2, 3, 2), (3, 2, 2)])
def test_a_crossed_node_plays_every_product_of_k_responses_per_agent(n, k, horizon):
    (episode,), cost = play(make_team(n), TreeShape(k, "crossed"), env_of(n, horizon))
    branches = k**n
    assert [len(depth(episode, t)) for t in range(horizon)] == [branches ** (t + 1) for t in range(horizon)]
    assert cost.inference_calls == n * k * sum(branches**t for t in range(horizon))
    for node, actions in episode.children().items():
        picks = [tuple(episode.transitions[a].picks[f"agent_{i}"] for i in range(n)) for a in actions]
        assert picks == list(itertools.product(range(k), repeat=n))
        # A response is sampled once and played by all joint actions that contain it.
        for i in range(n):
            objects = {(p[i], id(episode.transitions[a].turns[f"agent_{i}"])) for p, a in zip(picks, actions, strict=True)}
            assert len(objects) == k, f"node {node}"


def test_greedy_baseline_nodes():
    """Every sampled node plays its greedy joint action too, and each greedy one goes on alone to the end."""
    n, k, horizon = 2, 2, 3
    (episode,), cost = play(make_team(n), TreeShape(k, "aligned", greedy_baseline=True), env_of(n, horizon))
    sampled_nodes = [sum(1 for _ in range(k**t)) for t in range(horizon)]
    greedy_starts = sampled_nodes
    for t in range(horizon):
        assert len(depth(episode, t)) == k ** (t + 1)
        # Greedy rollouts begun at this depth, and those begun before that are still going on.
        assert len(depth(episode, t, greedy=True)) == sum(greedy_starts[: t + 1])
    calls = n * (sum(sampled_nodes) * (k + 1) + sum(sum(greedy_starts[:t]) for t in range(horizon)))
    assert cost.inference_calls == calls
    for index, tr in enumerate(episode.transitions):
        after = [c for c in episode.transitions if c.parent == index]
        if tr.turn == horizon - 1:
            assert after == []
        else:
            assert [c.greedy for c in after] == ([True] if tr.greedy else [False] * k + [True])


def test_greedy_responses_are_the_likeliest_and_one_sample_has_no_siblings():
    team = make_team(2)
    (episode,), _ = play(team, TreeShape(1, "aligned", greedy_baseline=True), env_of(2, 2))
    (again,), _ = play(team, TreeShape(3, "aligned", greedy_baseline=True), env_of(2, 2))
    roots = [next(tr for tr in e.transitions if tr.greedy and tr.turn == 0) for e in (episode, again)]
    assert [t.response_ids for t in roots[0].turns.values()] == [t.response_ids for t in roots[1].turns.values()]
    for name, turn in roots[0].turns.items():
        assert turn.response_ids == greedy_by_transformers(team.policies[name].host.loaded.model, turn.context_ids, len(turn.response_ids))
    assert [tr.greedy for tr in episode.transitions if tr.turn == 0] == [False, True]


def greedy_by_transformers(model, context: tuple[int, ...], count: int) -> tuple[int, ...]:
    ids = list(context)
    for _ in range(count):
        with torch.no_grad():
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return tuple(ids[len(context) :])


def test_all_nodes_of_one_depth_are_answered_in_one_batch(monkeypatch):
    team, sizes = make_team(2, lora=False), []
    inner = HostBatch.admit

    def admit(self, requests):
        if requests:
            sizes.append((self._host.name, len(requests)))
        return inner(self, requests)

    monkeypatch.setattr(HostBatch, "admit", admit)
    _, cost = play(team, TreeShape(2), env_of(2, 3), plans=3)
    hosts = [p.host.name for p in team.policies.values()]
    assert sorted(sizes) == sorted((h, 3 * 2**t) for t in (1, 2, 3) for h in hosts)
    assert cost.peak_rows == 3 * 8


def test_agents_on_one_base_are_answered_together_and_batches_stay_within_the_episodes_in_flight():
    config = Config(
        method="magrpo",
        agents=[AgentConfig(model="tiny-a", tuning="lora", lora=LoraConfig(rank=2), max_new_tokens=3)] * 2,
        context_window=WINDOW,
    )
    team = build_team(config, ["agent_0", "agent_1"], {}, 2, {})
    _, cost = play(team, TreeShape(2), env_of(2, 2), plans=3, in_flight=2)
    assert cost.peak_rows == 2 * 2 * 4, "two episodes, two agents, four responses each at depth 1"
    assert cost.inference_calls == 3 * 2 * 2 * 3


# -- histories -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tree", [TreeShape(2), TreeShape(2, "crossed"), TreeShape(2, "aligned", True)], ids=["aligned", "crossed", "greedy"]
)
def test_siblings_share_their_context_and_children_continue_the_right_response(tree):
    (episode,), _ = play(make_team(2), tree, env_of(2, 3 if tree.joint_mode == "aligned" else 2))
    for tr in episode.transitions:
        siblings = [episode.transitions[a] for a in episode.children()[tr.node]]
        for name, turn in tr.turns.items():
            assert {s.turns[name].context_ids for s in siblings} == {turn.context_ids}
            if tr.parent is not None:
                came = episode.transitions[tr.parent].turns[name]
                past = came.context_ids + came.response_ids
                assert turn.context_ids[: len(past)] == past
                assert len(turn.context_ids) > len(past)
    # The test would see a mix-up: responses of one node differ.
    roots = {tr.turns["agent_0"].response_ids for tr in depth(episode, 0)}
    assert len(roots) == 2


@pytest.mark.parametrize("tree", [TreeShape(2), TreeShape(2, "crossed")], ids=["aligned", "crossed"])
def test_an_environment_copy_goes_on_from_its_own_joint_action(tree):
    """m_t of a child quotes the share its parent's reward was: copies of the environment do not leak into one another."""
    (episode,), _ = play(make_team(2), tree, env_of(2, 2, letters="".join(map(chr, range(32, 80)))))
    for tr in depth(episode, 1):
        parent = episode.transitions[tr.parent]
        text = "".join(parent.turns[a].text for a in ("agent_0", "agent_1"))
        share = sum(c in set(map(chr, range(32, 80))) for c in text) / max(1, len(text))
        assert parent.reward == pytest.approx(share)
        assert tr.info.features.tolist() == pytest.approx([0.5, parent.reward])
    assert len({tr.reward for tr in depth(episode, 0)}) > 1, "with equal rewards nothing is tested"


def test_the_newest_prompt_alone_is_the_history_with_last():
    team = make_team(2, history="last")
    (episode,), _ = play(team, TreeShape(2), env_of(2, 2), history="last")
    for tr in depth(episode, 1):
        for name, turn in tr.turns.items():
            assert turn.context_ids == team.policies[name].chat.first(turn.observation)


def test_siblings_report_the_same_dropped_turns():
    """What a response's context has lost is known when it is sampled: the same for all siblings, who share that context."""
    team = make_team(1, tokens=4, window=36)
    (episode,), _ = play(team, TreeShape(2), env_of(1, 4), window=36)
    assert max(tr.turns["agent_0"].dropped_turns for tr in episode.transitions) > 0, "nothing was dropped, nothing is tested"
    for siblings in episode.children().values():
        found = [
            (episode.transitions[a].turns["agent_0"].dropped_turns, episode.transitions[a].turns["agent_0"].context_ids) for a in siblings
        ]
        assert len(set(found)) == 1, [d for d, _ in found]


@pytest.mark.parametrize(
    "tree", [TreeShape(2), TreeShape(2, "crossed"), TreeShape(1, "aligned", True)], ids=["aligned", "crossed", "greedy"]
)
@pytest.mark.parametrize("history", ["full", "last"])
def test_caches_change_no_response(tree, history):
    found = []
    for cached in (True, False):
        team = make_team(2, history=history)
        for host in team.hosts.values():
            assert host._caches is not None
            host._caches = host._caches if cached else None
        episodes, _ = play(team, tree, env_of(2, 3 if tree.joint_mode == "aligned" else 2), plans=2, history=history)
        found.append([[(tr.node, t.context_ids, t.response_ids) for tr in e.transitions for t in tr.turns.values()] for e in episodes])
        if cached:
            assert all(host._caches == {} for host in team.hosts.values()), "caches are let go of at the end"
    assert found[0] == found[1]


def test_caches_of_a_tree_are_read_and_let_go_of_depth_by_depth(monkeypatch):
    team = make_team(1)
    host, held, fed = team.policies["agent_0"].host, [], []
    admit, decode, last_logits = HostBatch.admit, HostBatch.decode, host._passes.last_logits

    def admitted(self, requests):
        held.append(len(self._host._caches))
        admit(self, requests)
        # Those that were continued are in the batch and are let go of.
        held.append(len(self._host._caches))

    def decoded(self, steps=None):
        answers = decode(self, steps)
        held.append(len(self._host._caches))
        return answers

    def watched(ids_BT, *rest):
        fed.append(ids_BT.shape[1])
        return last_logits(ids_BT, *rest)

    monkeypatch.setattr(HostBatch, "admit", admitted)
    monkeypatch.setattr(HostBatch, "decode", decoded)
    monkeypatch.setattr(host._passes, "last_logits", watched)
    (episode,), _ = play(team, TreeShape(2), env_of(1, 3))
    # Before a depth is read, while it is being answered, and once it is.
    assert held == [0, 0, 2, 2, 0, 4, 4, 0, 8]
    assert not host._caches
    prefills = [n for n in fed if n > 1]
    contexts = [max(len(tr.turns["agent_0"].context_ids) for tr in depth(episode, t)) for t in range(3)]
    assert len(prefills) == 3
    assert prefills[0] == contexts[0]
    assert all(n < c / 2 for n, c in zip(prefills[1:], contexts[1:], strict=True)), "children feed only what is new to them"


def test_what_is_sampled_does_not_depend_on_the_batch_it_is_sampled_in():
    alone = [
        play(make_team(2), TreeShape(2), env_of(2, 2), plans=3, in_flight=1)[0],
        play(make_team(2), TreeShape(2), env_of(2, 2), plans=3)[0],
    ]
    ids = [[[t.response_ids for tr in e.transitions for t in tr.turns.values()] for e in episodes] for episodes in alone]
    assert ids[0] == ids[1]
    assert ids[0][0] != ids[0][1], "episodes have seeds of their own"


# -- ends ----------------------------------------------------------------------------------------------------------------


class Lottery(LettersEnv):
    """Pays a random number each turn; solved where it is below `ends`. Its chance can be seeded anew."""

    def __init__(self, turns: int = 3, ends: float = 0.0) -> None:
        super().__init__(1, turns)
        self.ends = ends
        self.rng = np.random.default_rng(0)
        self.log: list[float] = []

    def reset(self, seed=None, options=None):
        self.rng = np.random.default_rng(seed)
        return super().reset(seed, options)

    def reseed(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def step(self, actions):
        observations, _, _, truncations, infos = super().step(actions)
        draw = float(self.rng.random())
        self.log.append(draw)
        agents = list(infos)
        solved = draw < self.ends
        infos = {a: {"metrics": {"steps": float(len(self.log))}} for a in agents}
        over = truncations if not solved else dict.fromkeys(agents, False)
        return observations, dict.fromkeys(agents, draw), dict.fromkeys(agents, solved), over, infos

    def close(self) -> None:
        """Nothing to let go of."""


class FixedLottery(Lottery):
    """The same without the means to seed its chance anew."""

    reseed = None  # type: ignore[assignment]

    def __getattribute__(self, name):
        if name == "reseed":
            raise AttributeError(name)
        return super().__getattribute__(name)


def test_branches_get_chance_of_their_own_where_the_environment_can():
    (episode,), _ = play(make_team(1), TreeShape(3), Lottery)
    rewards = [tr.reward for tr in episode.transitions]
    assert len(rewards) == 3 + 9 + 27
    assert len(set(rewards)) == len(rewards), "no two joint actions drew the same number"
    (again,), _ = play(make_team(1), TreeShape(3), Lottery)
    assert [tr.reward for tr in again.transitions] == rewards, "and a repeated rollout draws the same ones"


def test_copies_of_an_environment_that_cannot_go_on_with_equal_chance():
    (episode,), _ = play(make_team(1), TreeShape(2), FixedLottery)
    for siblings in episode.children().values():
        assert len({episode.transitions[a].reward for a in siblings}) == 1
    assert len({tr.reward for tr in episode.transitions}) == 3, "one number a turn"


def test_early_ends_close_branches_and_nothing_is_played_after_them():
    (episode,), cost = play(make_team(1), TreeShape(3), lambda: Lottery(3, ends=0.4))
    ended = [i for i, tr in enumerate(episode.transitions) if tr.terminated]
    assert any(episode.transitions[i].turn < 2 for i in ended), "no branch ended early, nothing is tested"
    assert any(tr.turn == 2 for tr in episode.transitions)
    parents = {tr.parent for tr in episode.transitions}
    for i, tr in enumerate(episode.transitions):
        assert (i in parents) == (not tr.terminated and tr.turn < 2)
        assert tr.truncated == (tr.turn == 2 and not tr.terminated)
        # Copies carry their own past: as many steps as turns, whatever the siblings did.
        assert tr.metrics == {"steps": tr.turn + 1.0}
    assert cost.inference_calls == 3 * len({tr.node for tr in episode.transitions})
    assert episode.leaves() == [i for i, tr in enumerate(episode.transitions) if tr.terminated or tr.truncated]


def test_every_environment_of_a_tree_is_closed_once(monkeypatch):
    closed: list[Lottery] = []
    monkeypatch.setattr(Lottery, "close", lambda self: closed.append(self))
    (episode,), _ = play(make_team(1), TreeShape(2), lambda: Lottery(2))
    # One environment per leaf: each inner joint action hands its environment on to one of its children.
    assert len({id(env) for env in closed}) == len(closed) == len(episode.leaves()) == 4


def test_a_chain_keeps_what_stands_upcoming_after_a_cut_only_where_asked():
    team = make_team(1)
    (plain,), _ = play(team, TreeShape(), lambda: Lottery(2))
    (kept,), _ = play(team, TreeShape(), lambda: Lottery(2), keep_cut=True)
    (solved,), _ = play(team, TreeShape(), lambda: Lottery(2, ends=1.1), keep_cut=True)
    assert plain.transitions[-1].truncated
    assert plain.upcoming is None
    last = kept.transitions[-1].turns["agent_0"]
    assert kept.upcoming is not None
    past = last.context_ids + last.response_ids
    assert kept.upcoming.contexts["agent_0"][: len(past)] == past
    assert kept.upcoming.info.features[0] == 1.0, "m_t after the last turn"
    assert (len(solved.transitions), solved.transitions[0].terminated, solved.upcoming) == (1, True, None)


# -- what is written -----------------------------------------------------------------------------------------------------


def test_a_written_tree_can_be_put_together_again():
    tree = TreeShape(2, "aligned", greedy_baseline=True)
    (episode,), _ = play(make_team(2), tree, env_of(2, 3))
    row = json.loads(json.dumps(describe(episode), allow_nan=False))
    assert (row["id"], row["update"], row["seed"]) == ("e0", 3, 100)
    contexts: list[dict[str, list[int]]] = []
    for index, (tr, written) in enumerate(zip(episode.transitions, row["turns"], strict=True)):
        # A line without `parent` follows the one above it.
        parent = written.get("parent", index - 1 if index else None)
        assert parent == tr.parent
        assert written.get("picks", {}) == tr.picks
        assert written.get("greedy", False) == tr.greedy
        assert (written["turn"], written["reward"]) == (tr.turn, tr.reward)
        rebuilt = {}
        for name, part in written["agents"].items():
            before = contexts[parent][name] if parent is not None and part["continues_history"] else []
            context = before + part["prompt_ids"]
            assert context == list(tr.turns[name].context_ids)
            rebuilt[name] = context + part["response_ids"]
        contexts.append(rebuilt)
    assert all(a["continues_history"] for t in row["turns"] if t["turn"] for a in t["agents"].values())


def test_a_written_chain_has_no_tree_in_it():
    (episode,), _ = play(make_team(1), TreeShape(), env_of(1, 3))
    assert not any({"parent", "picks", "greedy"} & set(t) for t in describe(episode)["turns"])


def test_stamps_are_read_when_a_joint_action_is_played():
    stamps = iter([(5, 7)] * 2 + [(6, 8)] * 4)
    (episode,), _ = play(make_team(1), TreeShape(2), env_of(1, 2), stamp=lambda: next(stamps))
    assert [(tr.update, tr.policy_version) for tr in episode.transitions] == [(5, 7)] * 2 + [(6, 8)] * 4
