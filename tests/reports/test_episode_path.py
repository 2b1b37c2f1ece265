"""Paths through rollout trees, and the branches beside them."""

from __future__ import annotations

import pytest
from reports.played import action, chain, tree

from collm.errors import RunFolderError
from collm.reports.episode_path import advantages_of, choose_leaf, is_tree, path_return, siblings
from collm.types import Episode


def test_a_chain_has_one_path():
    episode = chain((0.5, -0.25, 1.0))
    assert not is_tree(episode)
    assert choose_leaf(episode, "best") == choose_leaf(episode, "worst") == 2
    assert path_return(episode, 2) == 1.25
    assert [s.index for s in siblings(episode, 1)] == [1]


def test_leaves_of_a_tree_by_return():
    """Rewards: 0.1 then 0, 0.2; 0.2 then 1, 1.2; greedy 0.9 then 0.25. Greedy answers at sampled nodes are no leaves of the samples."""
    episode = tree()
    assert is_tree(episode)
    assert {a: round(path_return(episode, a), 9) for a in episode.leaves()} == {4: 0.1, 5: 0.3, 7: 1.2, 8: 1.4}
    assert (choose_leaf(episode, "best"), choose_leaf(episode, "worst"), choose_leaf(episode, "greedy")) == (8, 4, 3)
    assert choose_leaf(episode, "9") == 9, "a greedy end may be asked for by its number"


@pytest.mark.parametrize("wanted", ["1", "99", "bset", ""])
def test_a_leaf_that_is_not_there(wanted):
    with pytest.raises(RunFolderError, match=r"option --leaf: episode 0000011 has no leaf .*; give best, worst, greedy or one of 3, 4, 5"):
        choose_leaf(tree(), wanted)


def test_no_greedy_path_from_the_first_turn():
    with pytest.raises(RunFolderError, match="has no path that is greedy from its first turn on"):
        choose_leaf(chain(), "greedy")


def test_siblings_have_reward_and_mean_return_to_go():
    found = siblings(tree(), 1)
    assert [(s.index, s.taken, s.greedy, s.picks.get("agent_0")) for s in found] == [
        (0, False, False, 0),
        (1, True, False, 1),
        (2, False, True, None),
    ]
    assert [s.to_go for s in found] == pytest.approx([0.1 + 0.1, 0.2 + 1.1, 0.9 + 0.25])
    assert [s.index for s in siblings(tree(), 8)] == [7, 8, 9]


def test_a_shared_response_has_the_advantage_of_its_first_joint_action():
    """Crossed: joint action 3 plays response 1 of both agents, whose advantages stand at joint actions 2 and 1."""
    advantages = [{"agent_0": 1.0, "agent_1": 2.0}, {"agent_1": 3.0}, {"agent_0": 4.0}, {}]
    crossed = [action(0, 0.0, picks={"agent_0": k // 2, "agent_1": k % 2}, advantages=advantages[k], truncated=True) for k in range(4)]
    episode = Episode("0", None, 0, 0, [*crossed, action(0, 0.0, greedy=True, truncated=True)])
    assert [advantages_of(episode, a) for a in range(5)] == [
        {"agent_0": 1.0, "agent_1": 2.0},
        {"agent_0": 1.0, "agent_1": 3.0},
        {"agent_0": 4.0, "agent_1": 2.0},
        {"agent_0": 4.0, "agent_1": 3.0},
        {},
    ]
