"""The policy loss and the shared loss on numbers: ratios, clip, KL, entropy, padding; gradients against plain formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from collm.algorithms.losses import PolicyGradientLoss, SharedLoss, SquaredValueLoss
from collm.models.member import PolicyOutput

LENGTHS = [3, 1, 2]
NEW = [[-1.0, -0.5, -2.0], [-0.3], [-1.5, -0.7]]
OLD = [[-1.2, -0.4, -2.5], [-0.9], [-1.5, -0.2]]
REFERENCE = [[-0.8, -0.9, -2.0], [-0.4], [-3.0, -0.1]]
ENTROPY = [[1.0, 2.0, 0.6], [0.5], [3.0, 1.0]]
ADVANTAGE = [2.0, -1.0, 0.5]


def padded(rows, filler: float) -> torch.Tensor:
    return torch.tensor([[*row, *[filler] * (3 - len(row))] for row in rows], dtype=torch.float64)


def output(filler: float = 0.0, reference: bool = False, value=None) -> PolicyOutput:
    """What a host hands to a loss; `filler` stands where there is no token."""
    mask = torch.tensor([[t < n for t in range(3)] for n in LENGTHS])
    return PolicyOutput(
        padded(NEW, filler).requires_grad_(),
        padded(ENTROPY, filler).requires_grad_(),
        mask,
        padded([[1.0] * n for n in LENGTHS], filler),
        padded(REFERENCE, filler) if reference else None,
        value,
    )


def data(old=OLD, filler: float = 0.0, **more) -> dict[str, torch.Tensor]:
    return {"advantage": torch.tensor(ADVANTAGE, dtype=torch.float64), "old_logprob": padded(old, filler), **more}


def gradient(loss_B: torch.Tensor, out: PolicyOutput) -> np.ndarray:
    (grad,) = torch.autograd.grad(loss_B.sum(), out.logprob_BT)
    return grad.numpy()


def sums(rows) -> np.ndarray:
    return np.array([sum(row) for row in rows])


RHO = np.exp(sums(NEW) - sums(OLD))


def test_sequence_ratio_by_hand():
    out = output()
    loss, metrics = PolicyGradientLoss("sequence")(out, data())
    np.testing.assert_allclose(loss.detach(), -RHO * ADVANTAGE)
    np.testing.assert_allclose(metrics["ratio"].detach(), RHO)
    np.testing.assert_allclose(metrics["approx_kl"].detach(), RHO - 1 - np.log(RHO))
    # Every token of a response gets -rho A; what is no token gets nothing.
    expected = [[-r * a if t < n else 0.0 for t in range(3)] for r, a, n in zip(RHO, ADVANTAGE, LENGTHS, strict=True)]
    np.testing.assert_allclose(gradient(loss, out), expected)


def test_token_ratio_by_hand():
    out = output()
    loss, metrics = PolicyGradientLoss("token")(out, data())
    ratios = [np.exp(np.array(new) - old) for new, old in zip(NEW, OLD, strict=True)]
    np.testing.assert_allclose(loss.detach(), [-a * r.sum() for a, r in zip(ADVANTAGE, ratios, strict=True)])
    expected = [[-a * r[t] if t < n else 0.0 for t in range(3)] for r, a, n in zip(ratios, ADVANTAGE, LENGTHS, strict=True)]
    np.testing.assert_allclose(gradient(loss, out), expected)
    # What is reported is the ratio of the whole macro-action, whatever the loss uses.
    np.testing.assert_allclose(metrics["ratio"].detach(), RHO)


def test_no_ratio_by_hand():
    out = output()
    loss, metrics = PolicyGradientLoss("none")(out, data())
    np.testing.assert_allclose(loss.detach(), -sums(NEW) * ADVANTAGE)
    np.testing.assert_allclose(
        gradient(loss, out), [[-a if t < n else 0.0 for t in range(3)] for a, n in zip(ADVANTAGE, LENGTHS, strict=True)]
    )
    assert metrics["clip_fraction"].tolist() == [0, 0, 0]


def test_all_three_have_the_same_gradient_on_fresh_samples():
    grads = []
    for ratio in ("sequence", "token", "none"):
        out = output()
        grads.append(gradient(PolicyGradientLoss(ratio)(out, data([[math.nan] * n for n in LENGTHS]))[0], out))
    np.testing.assert_allclose(grads[0], grads[1])
    np.testing.assert_allclose(grads[0], grads[2])
    np.testing.assert_allclose(grads[0][0], [-2.0] * 3)


@pytest.mark.parametrize("clip", [None, 0.2])
@pytest.mark.parametrize("ratio", ["sequence", "token", "none"])
def test_fresh_samples_have_a_ratio_of_exactly_one(ratio, clip):
    _, metrics = PolicyGradientLoss(ratio, None if ratio == "none" else clip)(output(), data([[math.nan] * n for n in LENGTHS]))
    assert metrics["ratio"].tolist() == [1.0, 1.0, 1.0]
    assert metrics["max_ratio"].tolist() == [1.0, 1.0, 1.0]
    assert metrics["approx_kl"].tolist() == [0.0, 0.0, 0.0]
    assert metrics["clip_fraction"].tolist() == [0.0, 0.0, 0.0]


def test_fresh_and_stale_samples_in_one_batch():
    old = [OLD[0], [math.nan], OLD[2]]
    _, metrics = PolicyGradientLoss("sequence")(output(), data(old))
    assert metrics["ratio"].tolist() == pytest.approx([RHO[0], 1.0, RHO[2]])
    assert metrics["ratio"].tolist()[1] == 1.0


@pytest.mark.parametrize("ratio", ["sequence", "token"])
def test_clip_is_the_pessimistic_bound_and_has_no_gradient_where_it_binds(ratio):
    c = 0.2
    out = output()
    loss, metrics = PolicyGradientLoss(ratio, c)(out, data())
    grad = gradient(loss, out)
    for b, (new, old, a) in enumerate(zip(NEW, OLD, ADVANTAGE, strict=True)):
        rhos = [math.exp(sum(new) - sum(old))] if ratio == "sequence" else [math.exp(x - y) for x, y in zip(new, old, strict=True)]
        terms = [max(-r * a, -min(max(r, 1 - c), 1 + c) * a) for r in rhos]
        assert loss[b].item() == pytest.approx(sum(terms))
        outside = [not 1 - c <= r <= 1 + c for r in rhos]
        assert metrics["clip_fraction"][b].item() == pytest.approx(np.mean(outside))
        # It binds where the ratio has already gone past the bound in the direction in which the advantage pushes.
        binds = [(a > 0 and r > 1 + c) or (a < 0 and r < 1 - c) for r in rhos]
        for t in range(len(new)):
            k = 0 if ratio == "sequence" else t
            assert grad[b, t] == pytest.approx(0.0 if binds[k] else -rhos[k] * a)
    assert any(metrics["clip_fraction"].tolist())


def test_a_clip_that_does_not_bind_changes_nothing():
    plain, clipped = (PolicyGradientLoss("sequence", c)(output(), data())[0] for c in (None, 100.0))
    torch.testing.assert_close(plain, clipped)


def test_kl_is_k3_summed_over_the_responses_tokens():
    out, coefficient = output(reference=True), 0.3
    without, _ = PolicyGradientLoss("none")(output(), data())
    loss, metrics = PolicyGradientLoss("none", kl_coef=coefficient)(out, data())
    d = [np.array(ref) - new for ref, new in zip(REFERENCE, NEW, strict=True)]
    k3 = np.array([(np.exp(x) - x - 1).sum() for x in d])
    np.testing.assert_allclose(metrics["reference_kl"].detach(), k3)
    np.testing.assert_allclose((loss - without).detach(), coefficient * k3)
    # d k3 / d log pi = 1 - exp(log ref - log pi), beside the policy's own -A.
    expected = [
        [-a + coefficient * (1 - math.exp(x[t])) if t < n else 0.0 for t in range(3)] for x, a, n in zip(d, ADVANTAGE, LENGTHS, strict=True)
    ]
    np.testing.assert_allclose(gradient(loss, out), expected)
    assert (k3 > 0).all()


def test_no_kl_is_reported_or_asked_for_without_a_coefficient():
    assert not PolicyGradientLoss().needs_reference
    assert PolicyGradientLoss(kl_coef=0.1).needs_reference
    assert "reference_kl" not in PolicyGradientLoss()(output(), data())[1]


def test_kl_to_oneself_is_zero_and_pushes_nowhere():
    out = output()
    out = PolicyOutput(out.logprob_BT, out.entropy_BT, out.mask_BT, out.kept_mass_BT, out.logprob_BT.detach().clone())
    _, metrics = PolicyGradientLoss(kl_coef=1.0)(out, data())
    assert metrics["reference_kl"].tolist() == [0.0, 0.0, 0.0]
    np.testing.assert_array_equal(gradient(metrics["reference_kl"], out), np.zeros((3, 3)))


def test_entropy_bonus_is_the_mean_over_the_tokens_and_lowers_the_loss():
    out = output()
    loss, metrics = PolicyGradientLoss(entropy_coef=0.1)(out, data())
    means = np.array([np.mean(row) for row in ENTROPY])
    np.testing.assert_allclose(metrics["entropy"].detach(), means)
    np.testing.assert_allclose((loss - PolicyGradientLoss()(output(), data())[0]).detach(), -0.1 * means)
    (grad,) = torch.autograd.grad(loss.sum(), out.entropy_BT)
    np.testing.assert_allclose(grad, [[-0.1 / n if t < n else 0.0 for t in range(3)] for n in LENGTHS])


@pytest.mark.parametrize("ratio", ["sequence", "token", "none"])
def test_what_stands_where_there_is_no_token_counts_nowhere(ratio):
    loss_of = PolicyGradientLoss(ratio, None if ratio == "none" else 0.2, kl_coef=0.5, entropy_coef=0.1)
    found = []
    for filler in (0.0, -9.0):
        out = output(filler, reference=True)
        loss, metrics = loss_of(out, data(filler=filler / 2))
        found.append((loss.detach(), gradient(loss, out), {k: v.detach() for k, v in metrics.items()}))
    torch.testing.assert_close(found[0][0], found[1][0])
    np.testing.assert_allclose(found[0][1], found[1][1])
    assert (found[1][1][1, 1:] == 0).all()
    for key, value in found[0][2].items():
        torch.testing.assert_close(value, found[1][2][key], msg=key)


def test_a_shared_loss_is_policy_plus_coefficient_times_value():
    value = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64, requires_grad=True)
    target = torch.tensor([1.0, 1.0, 1.0], dtype=torch.float64)
    out = output(value=value)
    policy, squared = PolicyGradientLoss("sequence"), SquaredValueLoss(None)
    loss, metrics = SharedLoss(policy, squared, 0.6)(out, data(target=target, old_value=value.detach()))
    np.testing.assert_allclose(loss.detach(), -RHO * ADVANTAGE + 0.6 * np.array([0.25, 4.0, 1.0]))
    np.testing.assert_allclose(metrics["value_loss"].detach(), [0.25, 4.0, 1.0])
    np.testing.assert_allclose(metrics["policy_loss"].detach(), -RHO * ADVANTAGE)
    (grad,) = torch.autograd.grad(loss.sum(), value)
    np.testing.assert_allclose(grad, 0.6 * 2 * np.array([-0.5, -2.0, 1.0]))
    with pytest.raises(ValueError, match="no value head"):
        SharedLoss(policy, squared, 0.6)(output(), data(target=target, old_value=target))


def test_value_clip_by_hand():
    values = torch.tensor([1.0, 1.0, 0.1], dtype=torch.float64, requires_grad=True)
    rows = {"target": torch.tensor([0.0, 2.0, 0.0]).double(), "old_value": torch.zeros(3).double()}
    loss, metrics = SquaredValueLoss(0.2)(values, rows)
    # V clipped to 0.2: errors 0.04 and 3.24; the larger of both counts.
    np.testing.assert_allclose(loss.detach(), [1.0, 3.24, 0.01])
    assert metrics["clip_fraction"].tolist() == [0.0, 1.0, 0.0]
    (grad,) = torch.autograd.grad(loss.sum(), values)
    np.testing.assert_allclose(grad, [2.0, 0.0, 0.2])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(-3, 0), st.floats(-3, 0)), min_size=1, max_size=4), st.floats(-2, 2), st.floats(0.05, 0.5))
def test_sequence_and_token_ratios_agree_on_responses_of_one_token(pairs, advantage, clip):
    new, old = (torch.tensor([[x] for x in column], dtype=torch.float64) for column in zip(*pairs, strict=True))
    one = torch.ones_like(new)
    out = PolicyOutput(new, one, one.bool(), one)
    rows = {"advantage": torch.full((len(pairs),), advantage, dtype=torch.float64), "old_logprob": old}
    sequence, token = (PolicyGradientLoss(ratio, clip)(out, rows)[0] for ratio in ("sequence", "token"))
    torch.testing.assert_close(sequence, token)
