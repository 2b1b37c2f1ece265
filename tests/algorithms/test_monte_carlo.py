"""The Monte-Carlo family: every method's advantages by hand, their weights, their scale, and what they are worth on average."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collm.algorithms.ma_reinforce import MAReinforce
from collm.algorithms.magrpo import MAGRPO
from collm.algorithms.maremax import MAReMax
from collm.algorithms.marloo import MARLOO
from collm.config.schema import AlgorithmConfig
from collm.training.buffer import Stored
from collm.training.credit import Credits, monte_carlo_credits
from collm.types import Episode, GlobalInfo, JointTransition, StopReason, Turn

INFO = GlobalInfo("", np.zeros(0, dtype=np.float32))
PLAIN = AlgorithmConfig(discount=0.5, advantage_normalization="off")
GROUPED = [MAReinforce(), MAGRPO(), MAGRPO(divide_by_std=True), MARLOO(), MAReMax("group_max")]


def joint(turn: int, reward: float, parent: int | None, picks: dict[str, int], agents=("a", "b"), greedy: bool = False) -> JointTransition:
    turns = {a: Turn("", (1,), (2,), "", StopReason.EOS, 0.0, 1.0, 0) for a in agents}
    return JointTransition(turn, turns, INFO, reward, False, False, {}, parent, picks, greedy)


def credits_of(method, transitions: list[JointTransition], agents=("a", "b"), algorithm: AlgorithmConfig = PLAIN) -> Credits:
    tree = Episode("e", None, 0, 0, transitions)
    drawn = [Stored(tree, i) for i, tr in enumerate(transitions) if not tr.greedy]
    return monte_carlo_credits(method, algorithm, list(agents), drawn)


def at(credits: Credits, agent: str) -> dict[int, float]:
    return {index: advantage for (_, index), advantage in credits.advantages[agent].items()}


# -- a group by hand -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "returns", "expected"),
    [
        (MAReinforce(), [1.0, 4.0], [1.0, 4.0]),
        (MAReinforce(), [1.0, 4.0, -2.0], [1.0, 4.0, -2.0]),
        (MAGRPO(), [1.0, 4.0], [-1.5, 1.5]),
        (MAGRPO(), [1.0, 4.0, 7.0], [-3.0, 0.0, 3.0]),
        (MAGRPO(divide_by_std=True), [1.0, 4.0], [-(0.5**0.5), 0.5**0.5]),
        (MAGRPO(divide_by_std=True), [1.0, 4.0, 7.0], [-1.0, 0.0, 1.0]),
        (MAGRPO(divide_by_std=True), [3.0, 3.0], [0.0, 0.0]),
        (MARLOO(), [1.0, 4.0], [-3.0, 3.0]),
        (MARLOO(), [1.0, 4.0, 7.0], [-4.5, 0.0, 4.5]),
        (MAReMax("group_max"), [1.0, 4.0], [-3.0, 0.0]),
        (MAReMax("group_max"), [1.0, 4.0, 7.0], [-6.0, -3.0, 0.0]),
    ],
)
def test_a_group_by_hand(method, returns, expected):
    np.testing.assert_allclose(method.advantages(np.array(returns), None), expected, atol=1e-12)


@pytest.mark.parametrize("returns", [[1.0], [1.0, 4.0], [1.0, 4.0, 7.0]])
def test_maremax_compares_with_the_greedy_return(returns):
    np.testing.assert_allclose(MAReMax().advantages(np.array(returns), 2.5), np.array(returns) - 2.5)
    with pytest.raises(ValueError, match="no greedy rollout"):
        MAReMax().advantages(np.array(returns), None)


def test_only_maremax_with_the_greedy_baseline_plays_greedy_rollouts():
    assert MAReMax().plays_greedy
    assert [m.plays_greedy for m in GROUPED] == [False] * 5


returns_of_a_group = st.lists(st.floats(-10, 10), min_size=2, max_size=5).map(np.array)


@settings(max_examples=50, deadline=None)
@given(returns_of_a_group)
def test_leave_one_out_is_the_group_mean_times_k_over_k_minus_one(G_K):
    k = len(G_K)
    np.testing.assert_allclose(MARLOO().advantages(G_K, None), MAGRPO().advantages(G_K, None) * k / (k - 1), atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(returns_of_a_group, st.floats(-10, 10), st.floats(0.1, 10))
def test_a_constant_in_every_return_changes_no_baselined_advantage(G_K, constant, scale):
    for method in (MAGRPO(), MARLOO(), MAReMax("group_max")):
        np.testing.assert_allclose(method.advantages(scale * G_K + constant, None), scale * method.advantages(G_K, None), atol=1e-8)
    if G_K.std(ddof=1) > 1e-3:
        divided = MAGRPO(divide_by_std=True)
        np.testing.assert_allclose(divided.advantages(scale * G_K + constant, None), divided.advantages(G_K, None), atol=1e-6)
        assert divided.advantages(G_K, None).std(ddof=1) == pytest.approx(1.0)


# -- trees by hand -------------------------------------------------------------------------------------------------------


def two_turns() -> list[JointTransition]:
    """Aligned, K = 2, H = 2; returns at gamma 1/2: root (1 + 3/2, 5 + 1/2), its children (2, 4) and (0, 2)."""
    return [
        joint(0, 1.0, None, {"a": 0, "b": 0}),
        joint(0, 5.0, None, {"a": 1, "b": 1}),
        joint(1, 2.0, 0, {"a": 0, "b": 0}),
        joint(1, 4.0, 0, {"a": 1, "b": 1}),
        joint(1, 0.0, 1, {"a": 0, "b": 0}),
        joint(1, 2.0, 1, {"a": 1, "b": 1}),
    ]


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (MAReinforce(), [2.5, 5.5, 2, 4, 0, 2]),
        (MAGRPO(), [-1.5, 1.5, -1, 1, -1, 1]),
        (MAGRPO(divide_by_std=True), [-(0.5**0.5), 0.5**0.5] * 3),
        (MARLOO(), [-3, 3, -2, 2, -2, 2]),
        (MAReMax("group_max"), [-3, 0, -2, 0, -2, 0]),
    ],
)
def test_an_aligned_tree_by_hand(method, expected):
    credits = credits_of(method, two_turns())
    for agent in ("a", "b"):
        assert at(credits, agent) == pytest.approx(dict(enumerate(expected)))
        assert credits.weights[agent] == pytest.approx({("e", i): 0.5 if i < 2 else 0.25 for i in range(6)})


def test_maremax_by_hand_on_a_tree_with_greedy_rollouts():
    tree = [
        joint(0, 1.0, None, {}),
        joint(0, 3.0, None, {}, greedy=True),
        joint(1, 2.0, 0, {}),
        joint(1, 6.0, 0, {}, greedy=True),
        joint(1, 8.0, 1, {}, greedy=True),
    ]
    credits = credits_of(MAReMax(), tree)
    # Root: 1 + 2/2 against 3 + 8/2. Its child: 2 against the greedy 6 played from there. Nothing greedy is trained on.
    assert at(credits, "a") == at(credits, "b") == {0: -5.0, 2: -4.0}


def test_a_crossed_node_by_hand():
    # Joint actions (0,0) (0,1) (1,0) (1,1).
    picks = [{"a": i, "b": j} for i, j in itertools.product(range(2), repeat=2)]
    credits = credits_of(MAReinforce(), [joint(0, r, None, p) for r, p in zip([1.0, 3.0, 7.0, 5.0], picks, strict=True)])
    # Each response stands at the first joint action that contains it, with the mean over those that do.
    assert at(credits, "a") == {0: 2.0, 2: 6.0}
    assert at(credits, "b") == {0: 4.0, 1: 4.0}
    assert credits.weights == {"a": {("e", 0): 0.5, ("e", 2): 0.5}, "b": {("e", 0): 0.5, ("e", 1): 0.5}}
    assert at(credits_of(MAGRPO(), [joint(0, r, None, p) for r, p in zip([1, 3, 7, 5], picks, strict=True)]), "a") == {0: -2.0, 2: 2.0}


def test_discounted_turn_weights():
    algorithm = PLAIN.model_copy(update={"turn_weight": "discounted"})
    paper, discounted = credits_of(MAGRPO(), two_turns()), credits_of(MAGRPO(), two_turns(), algorithm=algorithm)
    assert discounted.weights == paper.weights
    assert [discounted.advantages["a"]["e", i] / paper.advantages["a"]["e", i] for i in range(6)] == [1, 1, 0.5, 0.5, 0.5, 0.5]


def test_a_response_is_judged_by_the_whole_tree_even_where_only_a_part_was_drawn():
    tree = Episode("e", None, 0, 0, two_turns())
    credits = monte_carlo_credits(MAGRPO(), PLAIN, ["a", "b"], [Stored(tree, 4), Stored(tree, 1)])
    assert at(credits, "a") == {1: 1.5, 4: -1.0}


def test_a_draw_without_any_response_of_an_agent_is_no_failure():
    """Crossed, the last joint action holds no response that stands there: its update says nothing, and no metric is NaN."""
    picks = [{"a": i, "b": j} for i, j in itertools.product(range(2), repeat=2)]
    tree = Episode("e", None, 0, 0, [joint(0, float(i), None, p) for i, p in enumerate(picks)])
    credits = monte_carlo_credits(MAGRPO(), AlgorithmConfig(), ["a", "b"], [Stored(tree, 3)])
    assert credits.advantages == {"a": {}, "b": {}}
    assert {k: v for k, v in credits.metrics.items() if not np.isfinite(v)} == {}


# -- scale ---------------------------------------------------------------------------------------------------------------


def crossed_node(n: int, k: int, reward) -> tuple[list[JointTransition], list[str]]:
    agents = [f"agent_{i}" for i in range(n)]
    products = itertools.product(range(k), repeat=n)
    return [joint(0, reward(ks), None, dict(zip(agents, ks, strict=True)), agents) for ks in products], agents


@pytest.mark.parametrize("method", GROUPED, ids=lambda m: f"{m.name}{'+std' if getattr(m, 'divide_by_std', False) else ''}")
@pytest.mark.parametrize("k", [2, 3])
def test_crossed_advantages_do_not_grow_with_the_number_of_agents(method, k):
    """Where only one agent's response matters its advantages are those of a team of one, however many joint actions there are."""
    returns = np.array([1.0, 4.0, -3.0][:k])
    alone = method.advantages(returns, None)
    for n in (2, 3, 4):
        transitions, agents = crossed_node(n, k, lambda ks: returns[ks[0]])
        credits = credits_of(method, transitions, agents)
        assert list(at(credits, "agent_0").values()) == pytest.approx(list(alone))
        for other in agents[1:]:
            assert list(at(credits, other).values()) == pytest.approx(list(method.advantages(np.full(k, returns.mean()), None)))


@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize("k", [2, 3])
def test_the_weights_of_a_node_sum_to_one_for_any_n_and_k(n, k):
    transitions, agents = crossed_node(n, k, lambda ks: 1.0)
    credits = credits_of(MAReinforce(), transitions, agents)
    for agent in agents:
        assert len(credits.weights[agent]) == k
        assert sum(credits.weights[agent].values()) == pytest.approx(1.0)
        # Constant rewards of 1: the gradient's scale is that of one sample with return 1.
        assert sum(w * credits.advantages[agent][key] for key, w in credits.weights[agent].items()) == pytest.approx(1.0)


# -- on average ----------------------------------------------------------------------------------------------------------

P = {"a": np.array([0.3, 0.7]), "b": np.array([0.6, 0.4])}
"""Two agents, two possible responses each, one turn: everything can be counted out."""
REWARD = np.array([[1.0, -2.0], [0.5, 4.0]])


def true_gradient(agent: str) -> np.ndarray:
    """d E[r] / d log-odds of the agent's first response, as (response, score) weights: sum over joint actions."""
    total = np.zeros(2)
    for i, j in itertools.product(range(2), repeat=2):
        mine = (i, j)["ab".index(agent)]
        total[mine] += P["a"][i] * P["b"][j] * REWARD[i, j]
    return score_sum(agent, total)


def score_sum(agent: str, weight_of_response: np.ndarray) -> np.ndarray:
    """sum over responses of weight times grad log pi, for softmax logits: weight_x (1[x] - p)."""
    return sum(w * (np.eye(2)[x] - P[agent]) for x, w in enumerate(weight_of_response))


@pytest.mark.parametrize("mode", ["aligned", "crossed"])
@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize(
    ("method", "factor"),
    [(MAReinforce(), lambda k: 1.0), (MARLOO(), lambda k: 1.0), (MAGRPO(), lambda k: (k - 1) / k), (MAReMax(), lambda k: 1.0)],
)
def test_the_expected_gradient_counted_out_over_every_possible_draw(mode, k, method, factor):
    expected = {agent: np.zeros(2) for agent in "ab"}
    for draws in itertools.product(range(2), repeat=2 * k):
        drawn = {"a": draws[:k], "b": draws[k:]}
        chance = np.prod([P[agent][x] for agent in "ab" for x in drawn[agent]])
        pairs = [(j, j) for j in range(k)] if mode == "aligned" else list(itertools.product(range(k), repeat=2))
        tree = [joint(0, REWARD[drawn["a"][i], drawn["b"][j]], None, {"a": i, "b": j}) for i, j in pairs]
        if method.plays_greedy:
            tree.append(joint(0, REWARD[1, 0], None, {}, greedy=True))
        credits = credits_of(method, tree)
        for agent in "ab":
            for (_, index), advantage in credits.advantages[agent].items():
                response = drawn[agent][tree[index].pick(agent)]
                weight = credits.weights[agent]["e", index] * advantage
                expected[agent] += chance * weight * (np.eye(2)[response] - P[agent])
    for agent in "ab":
        np.testing.assert_allclose(expected[agent], factor(k) * true_gradient(agent), atol=1e-12)


def test_the_group_maximum_is_biased_as_its_page_says():
    """With K = 1 it would be zero; with K = 2 its expectation is not the gradient."""
    expected = np.zeros(2)
    for draws in itertools.product(range(2), repeat=4):
        a, b = draws[:2], draws[2:]
        chance = np.prod(P["a"][list(a)]) * np.prod(P["b"][list(b)])
        tree = [joint(0, REWARD[a[j], b[j]], None, {"a": j, "b": j}) for j in range(2)]
        for (_, index), advantage in credits_of(MAReMax("group_max"), tree).advantages["a"].items():
            expected += chance * 0.5 * advantage * (np.eye(2)[a[index]] - P["a"])
    assert np.abs(expected - true_gradient("a")).max() > 0.05
