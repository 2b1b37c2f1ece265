"""TD errors, n-step returns and GAE over turns: by hand, and what they have to agree on for any numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collm.algorithms.collm_cc import CoLLMCC
from collm.algorithms.collm_dc import CoLLMDC
from collm.algorithms.turns import TurnEstimator, TurnValues, generalised_advantages, n_step_returns

R = np.array([1.0, 2.0, 3.0])
V = np.array([0.5, 0.25, -1.0])
ENDED = TurnValues(V, np.array([0.25, -1.0, 0.0]))
CUT = TurnValues(V, np.array([0.25, -1.0, 4.0]))
"""The same episode, cut by a budget: what stands upcoming is worth 4."""


def test_td_by_hand():
    td = TurnEstimator(0.9)
    np.testing.assert_allclose(td.targets(R, ENDED), [1 + 0.9 * 0.25, 2 - 0.9, 3.0])
    np.testing.assert_allclose(td.advantages(R, ENDED), [1.225 - 0.5, 1.1 - 0.25, 3.0 + 1.0])


def test_a_bootstrapped_end_moves_the_last_target_of_td_and_nothing_else():
    td = TurnEstimator(0.9)
    np.testing.assert_allclose(td.targets(R, CUT) - td.targets(R, ENDED), [0, 0, 0.9 * 4.0])
    np.testing.assert_allclose(td.advantages(R, CUT) - td.advantages(R, ENDED), [0, 0, 3.6])


def test_two_step_returns_by_hand():
    two = TurnEstimator(0.5, n_step=2)
    expected = [1 + 0.5 * 2 + 0.25 * -1.0, 2 + 0.5 * 3, 3.0]
    np.testing.assert_allclose(two.targets(R, ENDED), expected)
    np.testing.assert_allclose(two.advantages(R, ENDED), np.array(expected) - V)
    # With an end that is bootstrapped, turn 1 reaches it after two turns and turn 2 after one.
    np.testing.assert_allclose(two.targets(R, CUT), [0.75 + 1, 3.5 + 0.25 * 4, 3 + 0.5 * 4])


def test_gae_by_hand():
    delta = [1 + 0.5 * 0.25 - 0.5, 2 - 0.5 - 0.25, 3.0 + 1.0]
    a2 = delta[2]
    a1 = delta[1] + 0.5 * 0.8 * a2
    a0 = delta[0] + 0.5 * 0.8 * a1
    gae = TurnEstimator(0.5, gae_lambda=0.8)
    np.testing.assert_allclose(gae.advantages(R, ENDED), [a0, a1, a2])
    np.testing.assert_allclose(gae.targets(R, ENDED), np.array([a0, a1, a2]) + V)
    # The value of what stands upcoming reaches back with gamma (gamma lambda)^k.
    np.testing.assert_allclose(gae.advantages(R, CUT) - [a0, a1, a2], 0.5 * 4 * np.array([0.16, 0.4, 1.0]))


def test_a_slow_copy_speaks_through_the_next_values_only():
    slow = TurnValues(V, np.array([10.0, 20.0, 0.0]))
    np.testing.assert_allclose(TurnEstimator(0.9).targets(R, slow), [10.0, 20.0, 3.0])
    np.testing.assert_allclose(TurnEstimator(0.9).advantages(R, slow), np.array([10.0, 20.0, 3.0]) - V)


def test_with_q_the_advantage_is_q_and_the_target_the_sarsa_one():
    q = TurnEstimator(0.9, kind="q")
    np.testing.assert_array_equal(q.advantages(R, ENDED), V)
    np.testing.assert_allclose(q.targets(R, ENDED), [1.225, 1.1, 3.0])


def test_cc_gives_every_agent_the_joint_advantage_and_dc_each_its_own():
    agents = ["a", "b"]
    own = {"critic_a": ENDED, "critic_b": TurnValues(np.zeros(3), np.zeros(3))}
    cc = CoLLMCC().advantages(R, {"critic": ENDED}, agents, TurnEstimator(0.9))
    dc = CoLLMDC().advantages(R, own, agents, TurnEstimator(0.9))
    np.testing.assert_array_equal(cc["a"], cc["b"])
    np.testing.assert_array_equal(dc["a"], cc["a"])
    np.testing.assert_array_equal(dc["b"], R)


numbers = st.floats(-5, 5)


@st.composite
def episodes(draw) -> tuple[np.ndarray, TurnValues, float]:
    """Rewards, values that bootstrap from the turn after (0 or a value at the end), discount."""
    horizon = draw(st.integers(1, 6))
    rewards, values = (np.array(draw(st.lists(numbers, min_size=horizon, max_size=horizon))) for _ in range(2))
    end = draw(st.one_of(st.just(0.0), numbers))
    return rewards, TurnValues(values, np.append(values[1:], end)), draw(st.floats(0, 1))


def discounted_return(rewards: np.ndarray, end: float, discount: float, turn: int) -> float:
    """sum_k gamma^k r_{t+k} and what the end is worth, term by term."""
    total, power = 0.0, 1.0
    for reward in rewards[turn:]:
        total, power = total + power * reward, power * discount
    return total + power * end


@settings(max_examples=50, deadline=None)
@given(episodes())
def test_lambda_one_is_the_monte_carlo_return_less_the_value(episode):
    rewards, values, discount = episode
    expected = [discounted_return(rewards, values.next_H[-1], discount, t) for t in range(len(rewards))]
    np.testing.assert_allclose(generalised_advantages(rewards, values, discount, 1.0), expected - values.V_H, atol=1e-9)
    np.testing.assert_allclose(TurnEstimator(discount, 1.0).targets(rewards, values), expected, atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(episodes())
def test_lambda_zero_is_the_td_error(episode):
    rewards, values, discount = episode
    td = TurnEstimator(discount).advantages(rewards, values)
    np.testing.assert_allclose(td, rewards + discount * values.next_H - values.V_H, atol=1e-12)
    np.testing.assert_allclose(generalised_advantages(rewards, values, discount, 0.0), td, atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(episodes(), st.integers(0, 3))
def test_n_steps_past_the_end_are_the_return_and_one_step_is_td(episode, more):
    rewards, values, discount = episode
    expected = [discounted_return(rewards, values.next_H[-1], discount, t) for t in range(len(rewards))]
    np.testing.assert_allclose(n_step_returns(rewards, values.next_H, discount, len(rewards) + more), expected, atol=1e-9)
    np.testing.assert_allclose(n_step_returns(rewards, values.next_H, discount, 1), rewards + discount * values.next_H, atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(episodes(), st.integers(1, 6))
def test_n_step_advantages_are_the_discounted_sum_of_n_td_errors(episode, n):
    rewards, values, discount = episode
    delta = rewards + discount * values.next_H - values.V_H
    expected = [sum(discount**k * d for k, d in enumerate(delta[t : t + n])) for t in range(len(delta))]
    np.testing.assert_allclose(TurnEstimator(discount, n_step=n).advantages(rewards, values), expected, atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(episodes(), st.floats(0.01, 0.99))
def test_gae_is_the_lambda_weighted_mean_of_the_n_step_advantages(episode, lam):
    rewards, values, discount = episode
    horizon = len(rewards)
    for t in range(horizon):
        left = horizon - t
        by_n = [TurnEstimator(discount, n_step=n).advantages(rewards, values)[t] for n in range(1, left + 1)]
        # Past the end every longer look is the longest one, which so takes all the weight that is left.
        weights = [(1 - lam) * lam ** (n - 1) for n in range(1, left)] + [lam ** (left - 1)]
        assert sum(weights) == pytest.approx(1.0)
        expected = sum(w * a for w, a in zip(weights, by_n, strict=True))
        assert generalised_advantages(rewards, values, discount, lam)[t] == pytest.approx(expected, abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(episodes(), st.floats(0, 1))
def test_exact_values_leave_no_advantage(episode, lam):
    rewards, values, discount = episode
    end = values.next_H[-1]
    exact = np.array([discounted_return(rewards, end, discount, t) for t in range(len(rewards))])
    values = TurnValues(exact, np.append(exact[1:], end))
    for estimator in (TurnEstimator(discount), TurnEstimator(discount, gae_lambda=lam), TurnEstimator(discount, n_step=2)):
        np.testing.assert_allclose(estimator.advantages(rewards, values), 0, atol=1e-9)
        np.testing.assert_allclose(estimator.targets(rewards, values), exact, atol=1e-9)
