from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2cli.tokens.permutation import permute, unpermute
from tests.chi_square import chi_square, critical

SEEDS = st.integers(0, 2**63)


@given(n=st.integers(1, 5000), seed=SEEDS, epoch=st.integers(0, 1000), stream=st.integers(-1, 1000))
def test_every_value_once_and_back_again(n: int, seed: int, epoch: int, stream: int) -> None:
    values = permute(np.arange(n), n, seed, epoch, stream)
    assert np.array_equal(np.sort(values), np.arange(n))
    assert np.array_equal(unpermute(values, n, seed, epoch, stream), np.arange(n))


@given(n=st.integers(1, 2**45), at=st.integers(0, 2**45), seed=SEEDS)
def test_single_values_of_huge_ranges(n: int, at: int, seed: int) -> None:
    position = np.array([at % n])
    value = permute(position, n, seed, 0)
    assert 0 <= value[0] < n
    assert unpermute(value, n, seed, 0)[0] == position[0]


@pytest.mark.parametrize("n", [2, 3, 5, 16, 33])
def test_every_value_is_as_likely_at_every_position(n: int) -> None:
    """Over keys, each row and column of the table position x value is uniform."""
    trials = 2000
    table = np.zeros((n, n))
    for trial in range(trials):
        table[np.arange(n), permute(np.arange(n), n, trial // 50, trial % 50)] += 1
    for line in (*table, *table.T):
        assert chi_square(line, np.full(n, 1 / n)) < critical(n - 1)


def test_neighbours_end_up_anywhere() -> None:
    """In one long permutation: the step from a value to its successor is uniform over distances."""
    n = 200_000
    values = permute(np.arange(n), n, 1, 0)
    distances = np.diff(values) % n
    assert chi_square(np.bincount(distances * 64 // n, minlength=64), np.full(64, 1 / 64)) < critical(63)
    assert chi_square(np.bincount(values[:1000] * 64 // n, minlength=64), np.full(64, 1 / 64)) < critical(63)


def test_seed_epoch_and_stream_each_give_another_order() -> None:
    orders = {tuple(permute(np.arange(50), 50, seed, epoch, stream))
              for seed in range(4) for epoch in range(4) for stream in range(-1, 3)}
    assert len(orders) == 64
