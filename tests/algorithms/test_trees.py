"""Returns, weights and groups of rollout trees: by hand, and against a recursive reference on random trees."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collm.algorithms.trees import agent_groups, joint_returns, node_weights
from collm.types import Episode, GlobalInfo, JointTransition, StopReason, Turn

AGENTS = ["a", "b", "c"]
INFO = GlobalInfo("", np.zeros(0, dtype=np.float32))


def joint(turn: int, reward: float, parent: int | None, picks: dict[str, int], greedy: bool = False, agents=("a", "b")) -> JointTransition:
    turns = {a: Turn("", (1,), (2,), "", StopReason.EOS, 0.0, 1.0, 0) for a in agents}
    return JointTransition(turn, turns, INFO, reward, False, False, {}, parent, picks, greedy)


def episode(*transitions: JointTransition) -> Episode:
    return Episode("e", None, 0, 0, list(transitions))


def aligned(k: int) -> dict[str, int]:
    return {"a": k, "b": k}


# Two samples a node, two turns; the second sample of the root ends the episode.
ENDS_EARLY = episode(
    joint(0, 1.0, None, aligned(0)), joint(0, 5.0, None, aligned(1)), joint(1, 2.0, 0, aligned(0)), joint(1, 4.0, 0, aligned(1))
)


def test_returns_by_hand():
    np.testing.assert_allclose(joint_returns(ENDS_EARLY, 0.5), [1 + 0.5 * 3.0, 5.0, 2.0, 4.0])
    assert ENDS_EARLY.discounted_return(0.5) == pytest.approx((2.5 + 5.0) / 2)
    assert ENDS_EARLY.leaves() == [1, 2, 3]


def test_a_chain_is_a_tree_of_one_branch():
    chain = episode(joint(0, 1.0, None, {}), joint(1, 2.0, 0, {}), joint(2, 3.0, 1, {}))
    np.testing.assert_allclose(joint_returns(chain, 0.5), [1 + 0.5 * (2 + 0.5 * 3), 2 + 0.5 * 3, 3])
    assert node_weights(chain) == {-1: 1.0, 0: 1.0, 1: 1.0, 2: 1.0}
    assert agent_groups(chain, "a") == {-1: [[0]], 0: [[1]], 1: [[2]]}


def test_weights_and_groups_by_hand():
    assert node_weights(ENDS_EARLY) == {-1: 1.0, 0: 0.5, 1: 0.5, 2: 0.25, 3: 0.25}
    assert agent_groups(ENDS_EARLY, "a") == agent_groups(ENDS_EARLY, "b") == {-1: [[0], [1]], 0: [[2], [3]]}


def test_crossed_groups_are_an_agents_responses_each_in_k_to_the_n_minus_one_joint_actions():
    picks = [dict(zip("ab", ks, strict=True)) for ks in itertools.product(range(2), repeat=2)]
    crossed = episode(*(joint(0, float(i), None, p) for i, p in enumerate(picks)), *(joint(1, 1.0, 3, p) for p in picks))
    assert agent_groups(crossed, "a") == {-1: [[0, 1], [2, 3]], 3: [[4, 5], [6, 7]]}
    assert agent_groups(crossed, "b") == {-1: [[0, 2], [1, 3]], 3: [[4, 6], [5, 7]]}
    weights = node_weights(crossed)
    assert weights[3] == 1 / 4
    assert weights[7] == 1 / 16
    np.testing.assert_allclose(joint_returns(crossed, 0.5)[:4], [0, 1, 2, 3.5])


def test_a_greedy_continuation_is_no_sample_of_its_node():
    tree = episode(
        joint(0, 1.0, None, {}),
        joint(0, 7.0, None, {}, greedy=True),
        joint(1, 2.0, 0, {}),
        joint(1, 100.0, 0, {}, greedy=True),
        joint(1, 20.0, 1, {}, greedy=True),
    )
    # The sample's return leaves out the greedy 100 at its child; the greedy one goes on greedily.
    np.testing.assert_allclose(joint_returns(tree, 0.5), [1 + 0.5 * 2, 7 + 0.5 * 20, 2, 100, 20])
    assert node_weights(tree) == {-1: 1.0, 0: 1.0, 2: 1.0}
    assert agent_groups(tree, "a") == {-1: [[0]], 0: [[2]]}
    assert tree.discounted_return(0.5) == pytest.approx(2.0)
    assert tree.leaves() == [2]


# -- random trees ------------------------------------------------------------------------------------------------------


@st.composite
def trees(draw, ends: bool = True) -> tuple[Episode, int, int, bool, int]:
    """A rollout tree as the collector would lay it out, depth by depth: (episode, K, n, crossed, H)."""
    n, k, crossed = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.booleans())
    horizon = draw(st.integers(1, 3 if k**n <= 4 or not crossed else 2))
    with_greedy = draw(st.booleans())
    agents = AGENTS[:n]
    if k == 1:
        sampled: list[dict[str, int]] = [{}]
    elif crossed:
        sampled = [dict(zip(agents, ks, strict=True)) for ks in itertools.product(range(k), repeat=n)]
    else:
        sampled = [dict.fromkeys(agents, j) for j in range(k)]
    rewards = iter(np.random.default_rng(draw(st.integers(0, 10**6))).normal(size=4000))
    stop = np.random.default_rng(draw(st.integers(0, 10**6)))
    share = draw(st.sampled_from([0.0, 0.4])) if ends else 0.0
    made: list[JointTransition] = []
    nodes: list[tuple[int | None, bool]] = [(None, False)]
    for turn in range(horizon):
        following: list[tuple[int | None, bool]] = []
        for parent, is_greedy in nodes:
            actions = [({}, True)] if is_greedy else [(p, False) for p in sampled] + ([({}, True)] if with_greedy else [])
            for picks, greedy in actions:
                made.append(joint(turn, float(next(rewards)), parent, picks, greedy, agents))
                if stop.random() >= share:
                    following.append((len(made) - 1, greedy))
        nodes = following
    return episode(*made), k, n, crossed and k > 1, horizon


def reference_return(tree: Episode, action: int, discount: float) -> float:
    """r + gamma times the mean over what was played after it, by recursion over the whole list."""
    me = tree.transitions[action]
    after = [a for a, tr in enumerate(tree.transitions) if tr.parent == action and tr.greedy == me.greedy]
    return me.reward + discount * (sum(reference_return(tree, a, discount) for a in after) / len(after) if after else 0.0)


@settings(max_examples=50, deadline=None)
@given(trees(), st.floats(0, 1))
def test_returns_equal_the_recursive_reference(made, discount):
    tree = made[0]
    expected = [reference_return(tree, a, discount) for a in range(len(tree.transitions))]
    np.testing.assert_allclose(joint_returns(tree, discount), expected, atol=1e-9)
    roots = [expected[a] for a, tr in enumerate(tree.transitions) if tr.parent is None and not tr.greedy]
    assert tree.discounted_return(discount) == pytest.approx(np.mean(roots), abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(trees(ends=False))
def test_weights_of_every_depth_sum_to_one_without_early_ends(made):
    tree, k, n, crossed, horizon = made
    weights, branches = node_weights(tree), k**n if crossed else k
    for turn in range(horizon):
        # The weights of the nodes that turn `turn` is played at.
        nodes = {tr.node for tr in tree.transitions if tr.turn == turn and not tr.greedy}
        assert len(nodes) == branches**turn
        assert sum(weights[node] for node in nodes) == pytest.approx(1.0)
        assert all(weights[node] == pytest.approx(1 / branches**turn) for node in nodes)


@settings(max_examples=50, deadline=None)
@given(trees())
def test_a_weight_is_the_chance_to_come_by_when_children_are_picked_evenly(made):
    tree = made[0]
    for node, weight in node_weights(tree).items():
        chance, here = 1.0, node
        while here >= 0:
            siblings = [tr for tr in tree.transitions if tr.node == tree.transitions[here].node and not tr.greedy]
            chance, here = chance / len(siblings), tree.transitions[here].node
        assert weight == pytest.approx(chance)


@settings(max_examples=50, deadline=None)
@given(trees())
def test_groups_split_every_nodes_samples_by_the_agents_response(made):
    tree, k, n, crossed, _ = made
    for agent in AGENTS[:n]:
        groups = agent_groups(tree, agent)
        assert set(groups) == {tr.node for tr in tree.transitions if not tr.greedy}
        for node, responses in groups.items():
            sampled = [a for a, tr in enumerate(tree.transitions) if tr.node == node and not tr.greedy]
            assert sorted(itertools.chain(*responses)) == sampled
            assert len(responses) == k
            assert all(len(actions) == (k ** (n - 1) if crossed else 1) for actions in responses)
            for pick, actions in enumerate(responses):
                assert {tree.transitions[a].pick(agent) for a in actions} == {pick}


@settings(max_examples=50, deadline=None)
@given(trees(), st.floats(0, 1))
def test_the_weighted_samples_of_a_tree_return_what_the_tree_returns(made, discount):
    """sum_t gamma^t of the weighted mean reward at depth t is the tree's discounted return: weights and returns agree."""
    tree = made[0]
    weights, total = node_weights(tree), 0.0
    for node, responses in agent_groups(tree, "a").items():
        actions = list(itertools.chain(*responses))
        mean = np.mean([tree.transitions[a].reward for a in actions])
        total += discount ** tree.transitions[actions[0]].turn * weights[node] * mean
    assert total == pytest.approx(tree.discounted_return(discount), abs=1e-9)
