"""Reading with a cache equals reading at once, however the text is cut."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import lively_model

from gpt2cli.model.kv_cache import KVCache
from gpt2cli.sizes import ModelShape

SHAPE = ModelShape(3, 4, 32, 24, 101)
MODEL = lively_model(SHAPE).requires_grad_(False)
IDS = torch.randint(101, (3, 24), generator=torch.Generator().manual_seed(5))


def cache(batch: int) -> KVCache:
    return KVCache(SHAPE, batch, SHAPE.n_ctx, device=torch.device("cpu"), dtype=torch.float32)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=24))
def test_any_cut_gives_the_same_hidden_states(cuts: list[int]) -> None:
    kept, start, parts = cache(3), 0, []
    for size in cuts:
        piece = IDS[:, start : start + size]
        if not piece.shape[1]:
            break
        parts.append(MODEL(piece, kept))
        start += piece.shape[1]
    assert kept.length == start
    torch.testing.assert_close(torch.cat(parts, dim=1), MODEL(IDS[:, :start]), rtol=1e-4, atol=1e-4)


def test_keep_goes_back_and_reorder_moves_rows() -> None:
    kept = cache(3)
    MODEL(IDS, kept)
    kept.keep(10)
    kept.reorder(torch.tensor([2, 0]))
    torch.testing.assert_close(MODEL(IDS[[2, 0], 10:15], kept), MODEL(IDS[[2, 0], :15])[:, 10:], rtol=1e-4, atol=1e-4)


def test_the_context_bounds_the_cache() -> None:
    kept = cache(3)
    MODEL(IDS, kept)
    with pytest.raises(ValueError, match="25 positions do not fit"):
        MODEL(IDS[:, :1], kept)
