"""The data order as a rule: what it visits, how far it mixes, what it depends on. test_window_reader reads by it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2cli.errors import UsageFault
from gpt2cli.tokens.order import BLOCK_TOKENS, BUFFER_BLOCKS, DataOrder, count_windows, data_order, order_version
from tests.chi_square import chi_square, critical

ORDERS = st.builds(DataOrder, seed=st.integers(0, 2**40), n_windows=st.integers(1, 700), block=st.integers(1, 40),
                   buffer_blocks=st.integers(1, 9))
MIXED = DataOrder(seed=11, n_windows=60_000 - 17, block=100, buffer_blocks=30)
"""600 blocks, the last one short, in 20 buffers."""


@settings(deadline=None)
@given(order=ORDERS, epoch=st.integers(0, 50))
def test_an_epoch_visits_every_window_once(order: DataOrder, epoch: int) -> None:
    windows = order.windows(epoch * order.n_windows, order.n_windows)
    assert np.array_equal(np.sort(windows), np.arange(order.n_windows))


@settings(deadline=None, max_examples=50)
@given(order=ORDERS, first=st.integers(0, 5000), count=st.integers(0, 60), cut=st.integers(0, 60))
def test_any_sample_can_be_entered_directly_and_counts_cross_epochs(
    order: DataOrder, first: int, count: int, cut: int
) -> None:
    whole = order.windows(first, count)
    cut = min(cut, count)
    assert np.array_equal(whole, np.concatenate([order.windows(first, cut), order.windows(first + cut, count - cut)]))
    assert [order.windows(first + i, 1)[0] for i in range(min(3, count))] == whole[:3].tolist()


@settings(deadline=None, max_examples=50)
@given(order=ORDERS, epoch=st.integers(0, 50))
def test_buffers_tile_an_epoch_and_stay_within_their_bound(order: DataOrder, epoch: int) -> None:
    sample, blocks = epoch * order.n_windows, []
    for number in range(order.n_buffers):
        buffer = order.buffer_at(sample)
        assert (buffer.number, buffer.epoch, buffer.first) == (number, epoch, sample)
        assert len(buffer.blocks) <= order.buffer_blocks and 0 < buffer.n_windows <= order.most_windows
        blocks += buffer.blocks.tolist()
        sample = buffer.end
    assert sample == (epoch + 1) * order.n_windows
    assert sorted(blocks) == list(range(order.n_blocks))


def test_buffers_hold_about_equally_many_blocks() -> None:
    order = DataOrder(0, 33 * 10, 10, 32)
    assert [len(order.buffer_at(sample).blocks) for sample in (0, 329)] == [16, 17]


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = {tuple(DataOrder(seed, 100, 5, 4).windows(100 * epoch, 100)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_position_and_window_are_unrelated() -> None:
    """Chi-square of where in the epoch against where in the corpus, over epochs; each buffer is 30 places of 600."""
    counts = np.zeros((20, 20))
    for epoch in range(120):
        for position in range(0, MIXED.n_windows, 3001):
            window = int(MIXED.windows(epoch * MIXED.n_windows + position, 1)[0])
            counts[position * 20 // MIXED.n_windows, window * 20 // MIXED.n_windows] += 1
    assert chi_square(counts.ravel(), (counts.sum(1, keepdims=True) * np.full(20, 0.05) / counts.sum()).ravel()
                      ) < critical(19 * 20)


def test_neighbours_in_the_corpus_are_spread_over_a_buffer() -> None:
    """Windows i and i + 1 of a block lie as far apart as two random draws from its buffer's 3,000 samples do."""
    at = np.empty(MIXED.n_windows, dtype=np.int64)
    at[MIXED.windows(0, MIXED.n_windows)] = np.arange(MIXED.n_windows)
    gaps = np.abs(np.diff(at))[np.arange(MIXED.n_windows - 1) % MIXED.block != MIXED.block - 1]
    bins = np.arange(0, 3001, 150)
    shares = np.diff(2 * bins / 3000 - (bins / 3000) ** 2)  # the triangle: distance of two uniform draws
    assert gaps.max() < 3000
    assert chi_square(np.histogram(gaps, bins)[0], shares) < 2 * critical(19)  # gaps that share a window depend
    assert (gaps < 500).mean() == pytest.approx(1 - (1 - 500 / 3000) ** 2, abs=0.01)


def test_a_batch_comes_from_all_over_its_buffer() -> None:
    blocks = MIXED.windows(5 * 3000, 300) // MIXED.block
    assert chi_square(np.unique(blocks, return_counts=True)[1], np.full(30, 1 / 30)) < critical(29)
    assert np.abs(np.corrcoef(blocks[:-1], blocks[1:])[0, 1]) < 0.2


def test_a_corpus_of_one_buffer_is_one_permutation_of_its_windows() -> None:
    one, other = DataOrder(3, 1000, 100, 10), DataOrder(3, 1000, 7, 1000)
    assert np.array_equal(one.windows(0, 2000), other.windows(0, 2000))


def test_the_order_is_part_of_the_format() -> None:
    """A change here would make old runs resume on other data: it needs a new version, not a new expectation."""
    assert data_order(0, 641, 64).windows(8, 6).tolist() == [8, 0, 7, 5, 0, 3]
    assert DataOrder(0, 23, 3, 2).windows(20, 12).tolist() == [18, 6, 20, 1, 2, 0, 21, 22, 7, 19, 6, 20]
    assert (BLOCK_TOKENS, BUFFER_BLOCKS) == (2**21, 32)


def test_the_version_says_when_blocks_come_in() -> None:
    limit = 32 * 2048 * 1024
    assert [order_version(n, 1024) for n in (2000, limit + 1, limit + 1024, limit + 1025)] == [1, 1, 1, 2]
    assert data_order(0, limit + 1024, 1024).n_buffers == 1
    assert data_order(0, limit + 1025, 1024).n_buffers == 2


def test_a_trillion_tokens_cost_no_memory() -> None:
    order = data_order(7, 10**12, 1024)
    assert order.windows(3 * order.n_windows - 2, 4).shape == (4,)
    assert order.most_windows * 1024 <= 2**26


def test_too_few_tokens_for_one_window_is_told() -> None:
    assert count_windows(1025, 1024) == 1
    with pytest.raises(UsageFault, match="too few"):
        count_windows(1024, 1024)
