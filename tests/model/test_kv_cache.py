"""Reading with a cache equals reading at once, however the text is cut and however long the other rows are."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import lively_model

from gpt2cli.model.decoder import Decoder
from gpt2cli.sizes import ModelShape

SHAPE = ModelShape(3, 4, 32, 24, 101)
MODEL = lively_model(SHAPE).requires_grad_(False)
DECODER = Decoder(MODEL)
IDS = torch.randint(101, (3, 24), generator=torch.Generator().manual_seed(5))


def whole(ids: list[int] | torch.Tensor) -> torch.Tensor:
    """The network's own final states of one sequence."""
    return MODEL(torch.as_tensor(ids)[None])[0]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=24))
def test_any_cut_gives_the_same_hidden_states(cuts: list[int]) -> None:
    kept, start, parts = DECODER.cache(3, 24), 0, []
    for size in cuts:
        piece = IDS[:, start : start + size]
        if not piece.shape[1]:
            break
        parts.append(DECODER.read(piece, kept))
        start += piece.shape[1]
    assert kept.lengths == [start] * 3
    torch.testing.assert_close(torch.cat(parts, dim=1), MODEL(IDS[:, :start]), rtol=1e-4, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=5), st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_rows_of_any_lengths_are_each_as_alone(lengths: list[int], pieces: list[int]) -> None:
    rows = [IDS[number % 3, :length].tolist() for number, length in enumerate(lengths)]
    kept = DECODER.cache(len(rows), 24)
    last_BC = DECODER.begin([tuple(row) for row in rows], kept)
    for row, last_C in zip(rows, last_BC, strict=True):
        torch.testing.assert_close(last_C, whole(row)[-1], rtol=1e-4, atol=1e-4)
    for size in pieces:
        new = IDS[:1, 5 : 5 + size].expand(len(rows), -1)
        x_BTC = DECODER.read(new, kept)
        rows = [row + new[0].tolist() for row in rows]
        for row, x_TC in zip(rows, x_BTC, strict=True):
            torch.testing.assert_close(x_TC, whole(row)[-size:], rtol=1e-4, atol=1e-4)
    assert kept.lengths == [len(row) for row in rows]


def test_rows_go_back_move_and_repeat() -> None:
    kept = DECODER.cache(3, 24)
    DECODER.read(IDS, kept)
    kept.set_lengths([10, 4, 7])
    kept.reorder([2, 0, 2, 2, 1])
    assert kept.lengths == [7, 10, 7, 7, 4]
    x_BTC = DECODER.read(IDS[[2, 0, 1, 0, 1], 10:12], kept)
    for row, (source, length, new) in enumerate([(2, 7, 2), (0, 10, 0), (2, 7, 1), (2, 7, 0), (1, 4, 1)]):
        alone = torch.cat([IDS[source, :length], IDS[new, 10:12]])
        torch.testing.assert_close(x_BTC[row], whole(alone)[-2:], rtol=1e-4, atol=1e-4)
    kept.reorder([4, 0])
    x_BTC = DECODER.read(IDS[:2, 20:21], kept)
    expected = whole(torch.cat([IDS[1, :4], IDS[1, 10:12], IDS[0, 20:21]]))
    torch.testing.assert_close(x_BTC[0], expected[-1:], rtol=1e-4, atol=1e-4)


def test_one_row_and_equal_rows_are_read_without_a_mask() -> None:
    kept = DECODER.cache(3, 24)
    DECODER.begin([(1, 2, 3)] * 3, kept)
    assert kept.window(1).mask is None
    kept.set_lengths([3, 2, 3])
    assert kept.window(1).mask is not None


def test_the_context_and_the_capacity_bound_the_cache() -> None:
    kept = DECODER.cache(3, 24)
    DECODER.read(IDS, kept)
    with pytest.raises(ValueError, match="25 positions do not fit a context"):
        DECODER.read(IDS[:, :1], kept)
    with pytest.raises(ValueError, match="25 positions do not fit a context"):
        DECODER.begin([tuple(range(25))], DECODER.cache(1, 24))
    with pytest.raises(ValueError, match="5 positions do not fit a cache of 4"):
        DECODER.read(IDS[:, :5], DECODER.cache(3, 4))
