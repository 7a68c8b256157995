"""Filters against transformers' logits processors on random logits."""

from __future__ import annotations

import pytest
import torch
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from gpt2cli.sampling.filters import apply_filters, keep_top_k, keep_top_p, scale_temperature

LOGITS = torch.randn(16, 1000, generator=torch.Generator().manual_seed(0)) * 3


@pytest.mark.parametrize("temperature", [0.1, 0.7, 1.0, 2.5])
def test_temperature(temperature: float) -> None:
    assert torch.equal(scale_temperature(LOGITS, temperature), TemperatureLogitsWarper(temperature)(None, LOGITS))


@pytest.mark.parametrize("k", [1, 2, 40, 999, 1000, 5000])
def test_top_k(k: int) -> None:
    assert torch.equal(keep_top_k(LOGITS, k), TopKLogitsWarper(k)(None, LOGITS))


def test_top_k_keeps_ties_with_the_last() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0, 2.0, 0.0]])
    assert keep_top_k(logits, 2).isfinite().tolist() == [[False, True, True, True, False]]
    assert torch.equal(keep_top_k(logits, 2), TopKLogitsWarper(2)(None, logits))


@pytest.mark.parametrize("p", [1e-6, 0.1, 0.5, 0.9, 0.999, 1.0])
def test_top_p(p: float) -> None:
    theirs = TopPLogitsWarper(p)(None, LOGITS) if p < 1 else LOGITS
    assert torch.equal(keep_top_p(LOGITS, p), theirs)


def test_top_p_keeps_the_smallest_set_that_reaches_p() -> None:
    logits = torch.tensor([[0.5, 0.25, 0.15, 0.1]]).log()
    assert [int(keep_top_p(logits, p).isfinite().sum()) for p in (0.49, 0.51, 0.76, 0.95)] == [1, 2, 3, 4]


@pytest.mark.parametrize(("temperature", "k", "p"), [(0.7, 50, 0.8), (1.3, 5, 0.3), (1.0, None, 0.9), (2.0, 3, None)])
def test_all_together_in_their_order(temperature: float, k: int | None, p: float | None) -> None:
    expected = TemperatureLogitsWarper(temperature)(None, LOGITS)
    if k is not None:
        expected = TopKLogitsWarper(k)(None, expected)
    if p is not None:
        expected = TopPLogitsWarper(p)(None, expected)
    assert torch.equal(apply_filters(LOGITS, temperature, k, p), expected)


def test_logits_are_left_as_they_were() -> None:
    before = LOGITS.clone()
    apply_filters(LOGITS, 0.5, 3, 0.5)
    assert torch.equal(LOGITS, before)
