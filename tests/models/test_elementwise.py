"""Norms, gates and rotations: values and gradients are those that autograd makes of their definitions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.llama.modeling_llama import rotate_half

from collm.models.elementwise import rms_norm, rotated, silu_gated


def numbers(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def angles(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    angle = torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    both = torch.cat([angle, angle], dim=-1)
    return both.cos(), both.sin()


def plain_norm(x, weight):
    return weight * (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-3))


def plain_rotation(x, cos, sin):
    return x * cos + rotate_half(x) * sin


def assert_same(own, plain, inputs):
    """Values to 1e-12, and the gradients of a sum in which every output has a direction of its own."""
    expected, found = plain(*inputs), own(*inputs)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    direction = torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    for a, b in zip(torch.autograd.grad(found, inputs, direction), torch.autograd.grad(expected, inputs, direction), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


@given(st.integers(0, 999), st.integers(1, 4), st.integers(1, 5), st.integers(1, 9))
def test_rms_norm(seed, rows, columns, width):
    assert_same(lambda x, w: rms_norm(x, w, 1e-3), plain_norm, (numbers(seed, rows, columns, width), numbers(seed + 1, width)))


def test_rms_norm_of_what_lies_otherwise_in_memory():
    """Heads before positions, as attention hands gradients back."""
    assert_same(lambda x, w: rms_norm(x.transpose(1, 2), w, 1e-3).transpose(1, 2), plain_norm, (numbers(0, 2, 3, 5, 4), numbers(1, 4)))


def test_a_norm_that_is_not_trained_gets_no_gradient():
    x, weight = numbers(0, 3, 4), numbers(1, 4).detach()
    rms_norm(x, weight, 1e-3).sum().backward()
    trained = numbers(0, 3, 4)
    plain_norm(trained, weight).sum().backward()
    assert weight.grad is None
    torch.testing.assert_close(x.grad, trained.grad, rtol=0, atol=1e-12)


@given(st.integers(0, 999), st.integers(1, 4), st.integers(1, 6))
def test_silu_gated(seed, rows, width):
    assert_same(silu_gated, lambda gate, up: F.silu(gate) * up, (numbers(seed, rows, width), numbers(seed + 1, rows, width)))


@pytest.mark.parametrize("shape", [(2, 5, 3, 8), (1, 5, 1, 2)])
def test_rotation(shape):
    cos, sin = angles(1, shape[1], 1, shape[-1] // 2)
    assert_same(lambda x: rotated(x, cos, sin), lambda x: plain_rotation(x, cos, sin), (numbers(0, *shape),))


def test_a_rotation_keeps_lengths_and_can_be_undone():
    x = numbers(3, 2, 5, 3, 8)
    cos, sin = angles(1, 5, 1, 4)
    there = rotated(x, cos, sin)
    torch.testing.assert_close(there.norm(dim=-1), x.norm(dim=-1))
    torch.testing.assert_close(rotated(there, cos, -sin), x)


def test_gradcheck():
    cos, sin = angles(1, 3, 1, 2)
    assert torch.autograd.gradcheck(lambda x, w: rms_norm(x, w, 1e-3), (numbers(0, 2, 3, 4), numbers(1, 4)))
    assert torch.autograd.gradcheck(silu_gated, (numbers(0, 2, 3), numbers(1, 2, 3)))
    assert torch.autograd.gradcheck(lambda x: rotated(x, cos, sin), (numbers(0, 2, 3, 1, 4),))
