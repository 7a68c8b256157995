"""The chunked head against torch's own cross entropy, value and gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from gpt2cli.model.nll import sum_nll, token_nll

N, C, V = 67, 24, 211


def case(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N, C, generator=generator, dtype=torch.float64)
    w = torch.randn(V, C, generator=generator, dtype=torch.float64)
    return x.to(dtype), w.to(dtype), torch.randint(V, (N,), generator=generator)


@pytest.mark.parametrize("chunk", [1, 16, 67, 512])
def test_token_nll_is_cross_entropy_for_every_chunk(chunk: int) -> None:
    x, w, targets = case()
    expected = F.cross_entropy(x.double() @ w.double().T, targets, reduction="none")
    torch.testing.assert_close(token_nll(x, w, targets, chunk).double(), expected, rtol=1e-6, atol=1e-5)


def test_no_positions_give_no_nll() -> None:
    x, w, targets = case()
    assert token_nll(x[:0], w, targets[:0]).shape == (0,)


@pytest.mark.parametrize("chunk", [1, 16, 67, 512])
def test_sum_nll_and_both_gradients_are_those_of_cross_entropy(chunk: int) -> None:
    x, w, targets = (tensor.requires_grad_() if tensor.is_floating_point() else tensor for tensor in case())
    total = sum_nll(x, w, targets, torch.float32, chunk)
    (total / 7).backward()
    x64, w64 = x.detach().double().requires_grad_(), w.detach().double().requires_grad_()
    expected = F.cross_entropy(x64 @ w64.T, targets, reduction="sum")
    (expected / 7).backward()
    assert float(total.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    torch.testing.assert_close(x.grad.double(), x64.grad, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(w.grad.double(), w64.grad, rtol=1e-5, atol=1e-6)


def test_bf16_rounds_the_products_but_not_the_softmax() -> None:
    x, w, targets = case(torch.bfloat16)
    logits = (x @ w.T).double()  # rounded once, as both must be
    expected = F.cross_entropy(logits, targets, reduction="none")
    nll = token_nll(x, w, targets)
    assert nll.dtype == torch.float32
    torch.testing.assert_close(nll.double(), expected, rtol=1e-5, atol=1e-5)
    fp32 = [tensor.float().requires_grad_() for tensor in (x, w)]
    total = sum_nll(*fp32, targets, torch.bfloat16, 16)
    total.backward()
    assert float(total.detach()) == pytest.approx(float(expected.sum()), rel=1e-5)
    exact = [tensor.detach().double().requires_grad_() for tensor in fp32]
    F.cross_entropy(exact[0] @ exact[1].T, targets, reduction="sum").backward()
    for ours, true in zip(fp32, exact, strict=True):
        assert ours.grad.dtype == torch.float32
        assert float((ours.grad.double() - true.grad).norm() / true.grad.norm()) < 0.01


def test_huge_logits_do_not_overflow() -> None:
    x, w, targets = case()
    nll = token_nll(x * 1e4, w, targets)
    assert bool(torch.isfinite(nll).all())
    expected = F.cross_entropy((x * 1e4).double() @ w.double().T, targets, reduction="none")
    torch.testing.assert_close(nll.double(), expected, rtol=1e-4, atol=1.0)
