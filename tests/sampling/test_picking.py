"""Draws by rejection: the set is the filters', the distribution exact, and nothing depends on the company."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from chi_square import chi_square, critical
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2cli.sampling.decoding import Decoding
from gpt2cli.sampling.filters import apply_filters
from gpt2cli.sampling.picking import draw_filtered, draw_weighted
from gpt2cli.sampling.streams import SampleStream

SETTINGS = [
    {"top_p": 0.9}, {"top_p": 0.15}, {"top_p": 1e-6}, {"top_p": 1.0}, {"min_p": 0.1}, {"top_k": 7},
    {"top_p": 0.6, "min_p": 0.05, "temperature": 1.7}, {"top_k": 30, "top_p": 0.8}, {"typical_p": 0.5},
    {"typical_p": 0.05}, {"top_k": 50, "top_p": 0.9, "min_p": 0.01, "typical_p": 0.7, "temperature": 0.8}, {},
]


@pytest.mark.parametrize("asked", SETTINGS, ids=str)
def test_draws_are_distributed_as_the_filters_say(asked: dict) -> None:
    logits = torch.randn(1, 70, generator=torch.Generator().manual_seed(3)) * 2
    logits[0, [4, 66]] = -torch.inf
    wanted = apply_filters(logits, Decoding(**asked)).double().softmax(1)[0].numpy()
    n = 2000
    drawn = draw_filtered(logits.expand(n, -1), Decoding(**asked), [SampleStream(1, 0, i) for i in range(n)])
    counts = np.bincount(drawn, minlength=70)
    assert counts[wanted == 0].sum() == 0, "drawn from outside the set"
    likely = wanted * n >= 5
    counts = np.append(counts[likely], counts[~likely].sum())
    wanted = np.append(wanted[likely], wanted[~likely].sum())
    keep = wanted > 0
    if keep.sum() > 1:
        assert chi_square(counts[keep], wanted[keep]) < critical(int(keep.sum()) - 1)


@pytest.mark.parametrize("asked", SETTINGS, ids=str)
def test_a_draw_does_not_depend_on_the_rows_beside_it(asked: dict) -> None:
    logits = torch.randn(9, 300, generator=torch.Generator().manual_seed(1))
    together = draw_filtered(logits, Decoding(**asked), [SampleStream(0, row, 0) for row in range(9)])
    assert together == [draw_filtered(logits[row : row + 1], Decoding(**asked), [SampleStream(0, row, 0)])[0]
                        for row in range(9)]


@settings(deadline=None)
@given(st.lists(st.floats(-40, 40), min_size=1, max_size=150), st.sampled_from(SETTINGS), st.integers(0, 999))
def test_whatever_the_logits_a_draw_ends_inside_the_set(values: list[float], asked: dict, seed: int) -> None:
    logits = torch.tensor([values])
    token = draw_filtered(logits, Decoding(**asked), [SampleStream(seed, 0, 0)])[0]
    # rounding of the mass may move the border by one token
    wider = {name: min(1.0, value + 1e-5) if name in ("top_p", "typical_p") else value for name, value in asked.items()}
    assert float(apply_filters(logits, Decoding(**wider))[0, token]) > -torch.inf


@pytest.mark.parametrize("size", [1, 63, 64, 65, 128, 1000, 50_257])
def test_blocks_are_only_a_way_of_summing(size: int) -> None:
    weights = torch.rand(size, generator=torch.Generator().manual_seed(size))
    weights[size // 3 : size // 2] = 0
    cdf = weights.double().cumsum(0)
    for uniform in (0.0, 0.5, 0.9, 1 - 2**-53):
        aim = torch.minimum(cdf[-1] * uniform, torch.nextafter(cdf[-1], torch.tensor(0.0).double()))
        assert draw_weighted(weights, uniform) == int(torch.searchsorted(cdf, aim, right=True))


def test_top_k_keeps_what_ties_with_its_last() -> None:
    logits = torch.tensor([[2.0, 1.0, 1.0, 1.0, 0.0]])
    drawn = {draw_filtered(logits, Decoding(top_k=2), [SampleStream(0, 0, i)])[0] for i in range(200)}
    assert drawn == {0, 1, 2, 3}
