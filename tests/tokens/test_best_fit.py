"""Rows lose nothing, cut nothing that fits, and waste hardly more than the textbook's best-fit-decreasing."""

from __future__ import annotations

from bisect import bisect_left, insort

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2cli.tokens.best_fit import arrange


def best_fit_decreasing(lengths: list[int], context: int) -> int:
    """Return the rows that the textbook needs: long items in pieces, each piece to the fullest row that takes it."""
    pieces = [piece for length in lengths for piece in [context] * (length // context) + [length % context] if piece]
    gaps: list[int] = []
    rows = 0
    for piece in sorted(pieces, reverse=True):
        place = bisect_left(gaps, piece)
        gap = gaps.pop(place) if place < len(gaps) else context
        rows += gap == context
        if gap > piece:
            insort(gaps, gap - piece)
    return rows


def rows_of(lengths: np.ndarray, context: int, longest_chain: int = 1 << 22) -> int:
    """Check an arrangement and return the rows it takes."""
    found = arrange(lengths, context, longest_chain)
    rows = 0
    for chain in found.full + found.open:
        place = 0
        for number in chain:
            length = int(lengths[number])
            assert length > context or place % context + length <= context, "a document that fits a row is cut"
            place += length
        rows += -(-place // context)
    assert sorted(number for chain in found.full + found.open for number in chain) == list(range(len(lengths)))
    assert all(lengths[chain].sum() < context for chain in found.open)
    for chain in found.full:
        assert lengths[chain].sum() % context == 0 or lengths[chain].max() > context
    return rows


@settings(max_examples=300, deadline=None)
@given(st.integers(2, 40), st.lists(st.integers(1, 130), min_size=1, max_size=60), st.sampled_from([1, 100, 1 << 22]))
def test_every_document_once_and_whole(context: int, lengths: list[int], longest_chain: int) -> None:
    rows = rows_of(np.array(lengths), context, longest_chain)
    assert rows >= -(-sum(lengths) // context)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("median", "spread", "context"), [(450, 1.2, 1024), (60, 1.0, 256), (20_000, 0.5, 1024),
                                                           (700, 0.2, 1024), (450, 1.2, 8192)])
def test_hardly_more_rows_than_the_textbook(median: float, spread: float, context: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    lengths = np.maximum(1, generator.lognormal(np.log(median), spread, 1500)).astype(np.int64)
    assert rows_of(lengths, context) <= 1.003 * best_fit_decreasing(lengths.tolist(), context)


def test_documents_longer_than_a_row_leave_less_than_one_row_of_padding() -> None:
    lengths = np.random.default_rng(0).integers(1025, 100_000, 300)
    assert rows_of(lengths, 1024, 1 << 30) == -(-int(lengths.sum()) // 1024)


def test_rows_that_no_document_completes_stay_open() -> None:
    found = arrange(np.array([600, 600, 400, 600]), 1024, 1 << 22)
    assert found.full == [] and sorted(map(len, found.open)) == [1, 1, 2]
    assert arrange(np.array([1024, 1, 1023, 500, 500, 24]), 1024, 1 << 22).open == []


def test_a_pair_that_fills_the_row_goes_before_the_longest_that_fits() -> None:
    found = arrange(np.array([900, 100, 84, 40]), 1024, 1 << 22)
    assert found.full == [[0, 2, 3]] and found.open == [[1]]
