"""Every kernel computes the same product."""

from __future__ import annotations

import pytest
import torch

from gpt2cli.model import linear as linear_module
from gpt2cli.model.linear import PackedLinear, has_onednn, linear


@pytest.mark.parametrize("onednn", [True, False])
def test_linear_with_and_without_onednn(monkeypatch: pytest.MonkeyPatch, onednn: bool) -> None:
    monkeypatch.setattr(linear_module, "has_onednn", lambda dtype: onednn)
    x, w, b = torch.randn(5, 16), torch.randn(16, 8), torch.randn(8)
    exact = x.double() @ w.double() + b.double()
    torch.testing.assert_close(linear(x, w.T, b).double(), exact, rtol=1e-5, atol=1e-5)
    gelu = torch.nn.functional.gelu(exact, approximate="tanh")
    torch.testing.assert_close(linear(x, w.T, b, gelu=True).double(), gelu, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(not has_onednn(torch.bfloat16), reason="no bf16 in oneDNN here")
@pytest.mark.parametrize("rows", [1, 2, 8, 33, 130])
def test_a_packed_matrix_gives_the_bits_of_a_plain_one(rows: int) -> None:
    generator = torch.Generator().manual_seed(2)
    x, w, b = (torch.randn(*size, generator=generator) for size in ((rows, 96), (64, 96), (64,)))
    for bias in (b.bfloat16(), None):
        packed = PackedLinear(w.bfloat16(), bias)
        for gelu in (False, True):
            with torch.no_grad():
                plain = linear(x, w.bfloat16(), bias, gelu=gelu)
            assert torch.equal(packed.infer(x, gelu=gelu), plain) and plain.dtype == torch.bfloat16
    assert packed.infer(x.view(1, rows, 96)).shape == (1, rows, 64)
