"""Filters against transformers' logits processors on random logits."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from transformers import (
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from gpt2cli.sampling.decoding import Decoding
from gpt2cli.sampling.filters import (
    apply_filters,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    keep_typical,
    scale_temperature,
)

LOGITS = torch.randn(16, 1000, generator=torch.Generator().manual_seed(0)) * 3
WARPERS = {"temperature": TemperatureLogitsWarper, "top_k": TopKLogitsWarper, "top_p": TopPLogitsWarper,
           "min_p": MinPLogitsWarper, "typical_p": TypicalLogitsWarper}
"""In the order in which transformers applies them."""


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


@pytest.mark.parametrize("scale", [0.3, 2.0, 8.0])
def test_top_p_of_a_whole_vocabulary(scale: float) -> None:
    """Sums of 50,257 numbers round: the sets may differ by tokens on the border alone."""
    logits = torch.randn(4, 50_257, generator=torch.Generator().manual_seed(1)) * scale
    for p in (0.05, 0.6, 0.95):
        ours, theirs = keep_top_p(logits, p).isfinite(), TopPLogitsWarper(p)(None, logits).isfinite()
        differ = (ours != theirs).sum(dim=1)
        assert (differ <= 2 + ours.sum(dim=1) * 1e-4).all(), differ


def test_top_p_keeps_the_smallest_set_that_reaches_p() -> None:
    logits = torch.tensor([[0.5, 0.25, 0.15, 0.1]]).log()
    assert [int(keep_top_p(logits, p).isfinite().sum()) for p in (0.49, 0.51, 0.76, 0.95)] == [1, 2, 3, 4]


def test_top_p_keeps_ties_with_its_last() -> None:
    logits = torch.tensor([[0.4, 0.2, 0.2, 0.2]]).log()
    assert keep_top_p(logits, 0.5).isfinite().all()
    assert keep_top_p(torch.zeros(1, 7), 0.01).isfinite().all()


@pytest.mark.parametrize("min_p", [1e-4, 0.02, 0.5, 1.0])
def test_min_p(min_p: float) -> None:
    assert torch.equal(keep_min_p(LOGITS, min_p), MinPLogitsWarper(min_p)(None, LOGITS))


@pytest.mark.parametrize("p", [1e-6, 0.1, 0.5, 0.9, 0.999])
def test_typical_p(p: float) -> None:
    assert torch.equal(keep_typical(LOGITS, p), TypicalLogitsWarper(p)(None, LOGITS))


@pytest.mark.parametrize("settings", [
    {"temperature": 0.7, "top_k": 50, "top_p": 0.8}, {"temperature": 1.3, "top_k": 5, "top_p": 0.3}, {"top_p": 0.9},
    {"temperature": 2.0, "top_k": 3}, {"top_p": 0.9, "min_p": 0.05}, {"top_k": 30, "typical_p": 0.6},
    {"temperature": 1.5, "top_k": 400, "top_p": 0.95, "min_p": 0.001, "typical_p": 0.9},
])
def test_all_together_in_their_order(settings: dict) -> None:
    expected = LOGITS
    for name, warper in WARPERS.items():
        if name in settings:
            expected = warper(settings[name])(None, expected)
    assert torch.equal(apply_filters(LOGITS, Decoding(**settings)), expected)


def test_every_filter_is_known_to_be_one() -> None:
    assert not Decoding(temperature=0.5).filtered
    assert all(dataclasses.replace(Decoding(), **{name: 1}).filtered for name in WARPERS if name != "temperature")


def test_logits_are_left_as_they_were() -> None:
    before = LOGITS.clone()
    apply_filters(LOGITS, Decoding(temperature=0.5, top_k=3, top_p=0.5, min_p=0.1, typical_p=0.5))
    assert torch.equal(LOGITS, before)
