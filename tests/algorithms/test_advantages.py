"""Which critic trains whom, normalisation, clipping and losses, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from collm.algorithms.advantages import clip, explained_variance, normalise
from collm.algorithms.collm_cc import CoLLMCC
from collm.algorithms.collm_dc import CoLLMDC
from collm.algorithms.losses import PolicyGradientLoss, SquaredValueLoss
from collm.algorithms.turns import TurnEstimator, TurnValues
from collm.models.member import PolicyOutput


def test_cc_trains_every_agent_on_the_same_delta_and_dc_on_its_own():
    rewards, agents, estimator = np.array([1.0, 1.0]), ["agent_0", "agent_1"], TurnEstimator(0.5)
    cc, dc = CoLLMCC(), CoLLMDC()
    assert cc.critics(agents) == {"critic": ("agent_0", "agent_1")}
    assert dc.critics(agents) == {"critic_agent_0": ("agent_0",), "critic_agent_1": ("agent_1",)}
    joint = cc.advantages(rewards, {"critic": TurnValues(np.array([0.0, 2.0]), np.array([2.0, 0.0]))}, agents, estimator)
    np.testing.assert_array_equal(joint["agent_0"], [2.0, -1.0])
    np.testing.assert_array_equal(joint["agent_1"], [2.0, -1.0])
    zeros, ones = TurnValues(np.zeros(2), np.zeros(2)), TurnValues(np.ones(2), np.array([1.0, 0.0]))
    own = dc.advantages(rewards, {"critic_agent_0": zeros, "critic_agent_1": ones}, agents, estimator)
    np.testing.assert_array_equal(own["agent_0"], [1.0, 1.0])
    np.testing.assert_array_equal(own["agent_1"], [0.5, 0.0])


def test_normalisation_over_the_batch_and_per_turn():
    a, turns = np.array([1.0, 3.0, 10.0, 30.0]), [0, 0, 1, 1]
    batch, skipped = normalise(a, turns, "batch")
    assert skipped == 0
    assert batch.mean() == pytest.approx(0)
    assert batch.std(ddof=1) == pytest.approx(1)
    per_turn, _ = normalise(a, turns, "per_turn")
    np.testing.assert_allclose(per_turn, np.array([-1, 1, -1, 1]) / np.sqrt(2))
    untouched, _ = normalise(a, turns, "off")
    np.testing.assert_array_equal(untouched, a)


def test_normalisation_of_fewer_than_two_samples_is_skipped_and_counted():
    alone, skipped = normalise(np.array([5.0]), [0], "batch")
    assert (alone.tolist(), skipped) == ([5.0], 1)
    mixed, skipped = normalise(np.array([5.0, 1.0, 2.0]), [0, 1, 1], "per_turn")
    assert skipped == 1
    assert mixed[0] == 5.0
    flat, skipped = normalise(np.array([2.0, 2.0]), [0, 0], "batch")
    assert (flat.tolist(), skipped) == ([2.0, 2.0], 2)


def test_advantage_clip():
    np.testing.assert_array_equal(clip(np.array([-3.0, 0.1, 9.0]), 0.2), [-0.2, 0.1, 0.2])
    np.testing.assert_array_equal(clip(np.array([-3.0, 9.0]), None), [-3.0, 9.0])


def test_explained_variance():
    targets = np.array([1.0, 2.0, 3.0])
    assert explained_variance(targets, targets) == 1.0
    assert explained_variance(np.zeros(3), targets) == 0.0
    assert explained_variance(np.zeros(3), np.ones(3)) == 0.0


def _output(logprobs: list[list[float]]) -> PolicyOutput:
    width = max(len(r) for r in logprobs)
    padded = torch.tensor([r + [-7.0] * (width - len(r)) for r in logprobs], dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[True] * len(r) + [False] * (width - len(r)) for r in logprobs])
    return PolicyOutput(padded, torch.zeros_like(padded), mask, torch.ones_like(padded))


def test_policy_loss_is_minus_rho_times_advantage_and_padding_does_not_count():
    output = _output([[-1.0, -0.5], [-2.0]])
    old = torch.tensor([[-0.8, -0.4], [torch.nan, 0.0]]).double()
    loss, metrics = PolicyGradientLoss()(output, {"advantage": torch.tensor([2.0, -1.0]).double(), "old_logprob": old})
    rho = np.exp(-1.5 + 1.2)
    assert loss.tolist() == pytest.approx([-2.0 * rho, 1.0])
    assert metrics["ratio"].tolist() == pytest.approx([rho, 1.0])
    (grad,) = torch.autograd.grad(loss.sum(), output.logprob_BT)
    np.testing.assert_allclose(grad.numpy(), [[-2 * rho, -2 * rho], [1.0, 0.0]])


def test_clipped_ratios_have_no_gradient_where_clipping_binds():
    output = _output([[-1.0], [-1.0], [-1.0]])
    data = {"advantage": torch.tensor([1.0, -1.0, 1.0]).double(), "old_logprob": torch.tensor([[-2.0], [-2.0], [-1.05]]).double()}
    loss, metrics = PolicyGradientLoss(clip_ratio=0.2)(output, data)
    assert loss.tolist() == pytest.approx([-1.2, np.e, -np.exp(0.05)])
    assert metrics["clip_fraction"].tolist() == [1.0, 1.0, 0.0]
    (grad,) = torch.autograd.grad(loss.sum(), output.logprob_BT)
    assert grad[:, 0].tolist() == pytest.approx([0.0, np.e, -np.exp(0.05)])


def test_value_loss_and_its_clip():
    values = torch.tensor([1.0, 1.0, 1.0], dtype=torch.float64, requires_grad=True)
    data = {"target": torch.tensor([3.0, 3.0, 0.0]).double(), "old_value": torch.tensor([0.0, 1.0, 0.0]).double()}
    loss, _ = SquaredValueLoss(None)(values, data)
    assert loss.tolist() == [4.0, 4.0, 1.0]
    clipped, metrics = SquaredValueLoss(0.5)(values, data)
    assert clipped.tolist() == [6.25, 4.0, 1.0]
    assert metrics["clip_fraction"].tolist() == [1.0, 0.0, 0.0]
