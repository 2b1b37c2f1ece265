"""The LM head in blocks of the vocabulary against a plain log-softmax over all of it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from collm.models import fused_head
from collm.models.fused_head import LinearHead

SMALLEST_BLOCK = 64
"""Of the vocabulary: what a tiny BLOCK_ELEMENTS comes to."""


@pytest.fixture(autouse=True, scope="module")
def small_blocks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(fused_head.BLOCK_ELEMENTS, "cpu", 1)
        yield


def made(
    positions: int, vocabulary: int, width: int = 5, *, bias: bool = True, dtype: torch.dtype = torch.float64, seed: int = 0
) -> tuple[nn.Linear, Tensor, Tensor]:
    """A head, hidden states and targets, the edges of the blocks among them."""
    generator = torch.Generator().manual_seed(seed)
    linear = nn.Linear(width, vocabulary, bias=bias, dtype=dtype)
    with torch.no_grad():
        for p in linear.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=dtype))
    hidden_PD = (2 * torch.randn(positions, width, generator=generator, dtype=dtype)).requires_grad_()
    edges = [
        t for t in (0, SMALLEST_BLOCK - 1, SMALLEST_BLOCK, 2 * SMALLEST_BLOCK - 1, 2 * SMALLEST_BLOCK, vocabulary - 1) if t < vocabulary
    ]
    drawn = torch.randint(vocabulary, (positions,), generator=generator).tolist()
    targets_P = torch.tensor([edges[i] if i < len(edges) else drawn[i] for i in range(positions)])
    return linear, hidden_PD, targets_P


def plain(linear: nn.Linear, hidden_PD: Tensor, targets_P: Tensor, temperature_P: Tensor | None) -> tuple[Tensor, Tensor]:
    logits_PV = linear(hidden_PD)
    logprob_PV = (logits_PV if temperature_P is None else logits_PV / temperature_P[:, None]).log_softmax(-1)
    return logprob_PV.gather(-1, targets_P[:, None])[:, 0], -(logprob_PV.exp() * logprob_PV).sum(-1)


def fused(linear: nn.Linear, autocast: Any = nullcontext) -> LinearHead:
    return LinearHead(linear, autocast)


def temperatures(positions: int, seed: int = 0) -> Tensor:
    return 0.3 + 2 * torch.rand(positions, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=60, deadline=None)
@given(
    positions=st.integers(1, 12),
    vocabulary=st.one_of(st.integers(2, 300), st.sampled_from([63, 64, 65, 127, 128, 129])),
    bias=st.booleans(),
    tempered=st.booleans(),
    entropy=st.booleans(),
    frozen=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_values_and_gradients_are_those_of_a_plain_log_softmax(positions, vocabulary, bias, tempered, entropy, frozen, seed):
    linear, hidden_PD, targets_P = made(positions, vocabulary, bias=bias, seed=seed)
    linear.requires_grad_(not frozen)
    temperature_P = temperatures(positions, seed) if tempered else None
    ours = fused(linear).statistics(hidden_PD, targets_P, temperature_P, entropy)
    expected = plain(linear, hidden_PD, targets_P, temperature_P)
    torch.testing.assert_close(ours[0], expected[0], rtol=0, atol=1e-10)
    if entropy:
        torch.testing.assert_close(ours[1], expected[1], rtol=0, atol=1e-10)
    else:
        assert ours[1].isnan().all()
    wanted = [hidden_PD, *(p for p in linear.parameters() if p.requires_grad)]
    generator = torch.Generator().manual_seed(seed)
    slopes = torch.randn(2, positions, generator=generator, dtype=torch.float64)
    used = slice(2 if entropy else 1)
    gradients = [
        torch.autograd.grad(sum((s * o).sum() for s, o in zip(slopes[used], out[used], strict=True)), wanted) for out in (ours, expected)
    ]
    for mine, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, reference, rtol=0, atol=1e-10)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("entropy", [False, True])
def test_gradcheck(bias, entropy):
    linear, hidden_PD, targets_P = made(3, 70, 2, bias=bias)
    temperature_P = temperatures(3)

    def outputs(hidden_PD: Tensor, *_: Tensor) -> tuple[Tensor, ...]:
        return fused(linear).statistics(hidden_PD, targets_P, temperature_P, entropy)[: 2 if entropy else 1]

    # gradcheck nudges the parameters in place, and the head reads them.
    assert torch.autograd.gradcheck(outputs, (hidden_PD, *linear.parameters()))


def test_only_the_entropy_may_be_differentiated():
    linear, hidden_PD, targets_P = made(6, 200)
    ours = fused(linear).statistics(hidden_PD, targets_P, None, True)[1].sum()
    expected = plain(linear, hidden_PD, targets_P, None)[1].sum()
    torch.testing.assert_close(*(torch.autograd.grad(x, hidden_PD)[0] for x in (ours, expected)), rtol=0, atol=1e-10)


def test_a_frozen_head_gets_no_gradient():
    linear, hidden_PD, targets_P = made(6, 200)
    linear.requires_grad_(False)
    fused(linear).statistics(hidden_PD, targets_P, None, False)[0].sum().backward()
    assert hidden_PD.grad is not None
    assert linear.weight.grad is None
    assert linear.bias.grad is None


@pytest.mark.parametrize("scale", [1e-3, 1.0, 300.0])
def test_logits_of_any_size_give_finite_numbers(scale):
    linear, hidden_PD, targets_P = made(8, 200)
    hidden_PD = (hidden_PD.detach() * scale).requires_grad_()
    ours, expected = fused(linear).statistics(hidden_PD, targets_P, None, True), plain(linear, hidden_PD, targets_P, None)
    torch.testing.assert_close(ours[0], expected[0], rtol=1e-12, atol=1e-10)
    torch.testing.assert_close(ours[1], expected[1].nan_to_num(), rtol=1e-9, atol=1e-10)
    (gradient,) = torch.autograd.grad(ours[0].sum() + ours[1].sum(), hidden_PD)
    assert torch.isfinite(gradient).all()


def test_bf16_autocast_stays_close_to_fp32():
    linear, hidden_PD, targets_P = made(16, 300, 32, dtype=torch.float32)
    with torch.no_grad():
        linear.weight.mul_(0.2)

    def bf16() -> AbstractContextManager[Any]:
        return torch.autocast("cpu", dtype=torch.bfloat16)

    narrow = fused(linear, bf16).statistics(hidden_PD, targets_P, None, True)
    wide = fused(linear).statistics(hidden_PD, targets_P, None, True)
    for ours, expected in zip(narrow, wide, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, expected, rtol=0.01, atol=0.05)
    wanted = (hidden_PD, linear.weight, linear.bias)
    gradients = [torch.autograd.grad(out[0].sum() + out[1].sum(), wanted) for out in (narrow, wide)]
    for ours, expected in zip(*gradients, strict=True):
        assert ours.dtype == torch.float32
        assert (ours - expected).norm() < 0.02 * expected.norm()


class Largest(TorchDispatchMode):
    """The most elements of any tensor made within the block, views counted by their own size."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.elements = max([self.elements, *(t.numel() for t in tree_iter(result) if isinstance(t, Tensor))])
        return result


@pytest.mark.parametrize("frozen", [False, True])
def test_no_tensor_of_positions_times_vocabulary_is_made(frozen):
    positions, vocabulary, width = 256, 4096, 8
    linear, hidden_PD, targets_P = made(positions, vocabulary, width)
    linear.requires_grad_(not frozen)
    with Largest() as largest:
        logprob_P, entropy_P = fused(linear).statistics(hidden_PD, targets_P, temperatures(positions), True)
        (logprob_P.sum() + entropy_P.sum()).backward()
    # The head's own gradient is all that grows with the vocabulary, and a block all that grows with the positions.
    assert largest.elements <= max(0 if frozen else vocabulary * width, positions * SMALLEST_BLOCK)
    assert positions * SMALLEST_BLOCK <= largest.elements < positions * vocabulary // 8
