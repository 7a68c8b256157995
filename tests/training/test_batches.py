from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.tokens import order
from gpt2cli.training.batches import TrainingBatches, ValidationSet

CPU = torch.device("cpu")
T, BATCH = 8, 12


class Stream:
    """Consecutive numbers, so that a token tells its place; one of them may be unreadable."""

    def __init__(self, n: int = 400 * T + 3, broken: int | None = None) -> None:
        self.ids, self.broken = np.arange(n, dtype=np.uint16), broken

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, start: int, stop: int) -> np.ndarray:
        if self.broken is not None and start <= self.broken < stop:
            raise BadInput("x.tok.zst: frame 3 at byte 77 is damaged")
        return self.ids[start:stop]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of ten windows, buffers of 80: the stream has five."""
    monkeypatch.setattr(order, "BLOCK_TOKENS", 10 * T)
    monkeypatch.setattr(order.DataOrder.__init__, "__defaults__", (8,))


def batches(stream: Stream, micro_batch: int = 5) -> TrainingBatches:
    return TrainingBatches(stream, n_ctx=T, batch=BATCH, micro_batch=micro_batch, seed=9, device=CPU)


def step_of(found: TrainingBatches, step: int) -> torch.Tensor:
    """Return the step's inputs and last targets (BATCH, T + 1)."""
    parts = []
    for inputs, targets in found.micro_batches(step):
        assert inputs.dtype == targets.dtype == torch.int64
        assert torch.equal(inputs[:, 1:], targets[:, :-1])
        parts.append(torch.cat([inputs, targets[:, -1:]], 1))
    return torch.cat(parts)


@pytest.mark.parametrize("micro_batch", [1, 5, 12])
def test_steps_are_the_data_order_whatever_the_micro_batch(micro_batch: int) -> None:
    rule = order.data_order(9, 400 * T + 3, T)
    assert rule.n_buffers == 5
    found = batches(Stream(), micro_batch)
    for step in [*range(1, 70), 3, 4, 1000, 69]:
        windows = rule.windows((step - 1) * BATCH, BATCH)
        assert np.array_equal(step_of(found, step).numpy(), windows[:, None] * T + np.arange(T + 1))
    found.close()


def test_the_sizes_of_micro_batches_add_up() -> None:
    found = batches(Stream())
    assert [len(inputs) for inputs, _ in found.micro_batches(1)] == [5, 5, 2]
    found.close()


def test_an_abandoned_step_can_be_begun_again() -> None:
    found = batches(Stream())
    first = next(found.micro_batches(2))[0].clone()
    assert torch.equal(step_of(found, 2)[:5, :T], first)
    found.close()


def test_close_leaves_no_thread_and_may_be_taken_back() -> None:
    before = threading.active_count()
    found = batches(Stream())
    whole = step_of(found, 1)
    found.close()
    assert threading.active_count() == before
    assert torch.equal(step_of(found, 1), whole)
    found.close()


def test_damage_is_met_at_the_same_step_whatever_the_micro_batch() -> None:
    rule = order.data_order(9, 400 * T + 3, T)
    buffer = rule.buffer_at(rule.buffer_at(0).end)
    broken = int(buffer.blocks[2]) * 10 * T + 3
    for micro_batch in (1, 5, 12):
        before = threading.active_count()
        found = batches(Stream(broken=broken), micro_batch)
        step = 1
        with pytest.raises(BadInput, match="frame 3 at byte 77"):
            for step in range(1, 100):
                step_of(found, step)
        assert step == buffer.first // BATCH + 1
        found.close()
        assert threading.active_count() == before


def test_too_few_tokens_are_refused() -> None:
    with pytest.raises(UsageFault, match="too few"):
        batches(Stream(T))


@pytest.mark.parametrize(("limit", "n_targets"), [(20, 20), (24, 24), (10_000, 3202)])
def test_validation_covers_its_targets_once(limit: int, n_targets: int) -> None:
    stream = Stream()
    found = ValidationSet(stream, n_ctx=T, limit=limit, token_bytes=np.full(4000, 2))
    assert (found.n_tokens, found.n_bytes) == (n_targets, 2 * n_targets)
    parts = list(found.windows(3))
    assert torch.cat([targets.flatten() for _, targets in parts]).tolist() == list(range(1, n_targets + 1))
    assert all(torch.equal(inputs + 1, targets) for inputs, targets in parts)
