from __future__ import annotations

import numpy as np
import pytest

from gpt2cli.errors import UsageFault
from gpt2cli.tokens.order import count_windows, permute, window_indices


@pytest.mark.parametrize("n", [1, 2, 3, 7, 64, 1000, 4097])
def test_an_epoch_visits_every_window_once(n: int) -> None:
    for epoch in range(3):
        assert sorted(permute(np.arange(n), n, 5, epoch)) == list(range(n))


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = {tuple(permute(np.arange(100), 100, seed, epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_any_step_can_be_entered_directly_and_steps_cross_epochs() -> None:
    whole = window_indices(3, 10, 0, 35)
    parts = [window_indices(3, 10, start, 7) for start in range(0, 35, 7)]
    assert np.array_equal(whole, np.concatenate(parts))
    assert all(sorted(whole[start : start + 10]) == list(range(10)) for start in (0, 10, 20))


def test_the_order_is_unrelated_to_the_position() -> None:
    order = permute(np.arange(50_000), 50_000, 1, 0)
    assert abs(np.corrcoef(order, np.arange(50_000))[0, 1]) < 0.02
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.02


def test_the_order_is_part_of_the_format() -> None:
    """A change here would make old runs resume on other data: it needs a new version, not a new expectation."""
    assert window_indices(0, 10, 8, 6).tolist() == [8, 0, 7, 5, 0, 3]


def test_too_few_tokens_for_one_window_is_told() -> None:
    assert count_windows(1025, 1024) == 1
    with pytest.raises(UsageFault, match="too few"):
        count_windows(1024, 1024)
