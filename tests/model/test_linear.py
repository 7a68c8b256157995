"""Every kernel computes the same product."""

from __future__ import annotations

import pytest
import torch

from gpt2cli.model import linear as linear_module
from gpt2cli.model.linear import linear


@pytest.mark.parametrize("onednn", [True, False])
def test_linear_with_and_without_onednn(monkeypatch: pytest.MonkeyPatch, onednn: bool) -> None:
    monkeypatch.setattr(linear_module, "has_onednn", lambda dtype: onednn)
    x, w, b = torch.randn(5, 16), torch.randn(16, 8), torch.randn(8)
    exact = x.double() @ w.double() + b.double()
    torch.testing.assert_close(linear(x, w.T, b).double(), exact, rtol=1e-5, atol=1e-5)
    gelu = torch.nn.functional.gelu(exact, approximate="tanh")
    torch.testing.assert_close(linear(x, w.T, b, gelu=True).double(), gelu, rtol=1e-5, atol=1e-5)
