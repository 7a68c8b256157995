"""Results in order, a bounded queue, errors in their turn, dead workers noticed, nobody left behind."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from gpt2cli.errors import BadInput, Gpt2Error
from gpt2cli.tokens.ordered_pool import Done, OrderedPool


def slow_square(number: int) -> int:
    """The smaller, the slower; -1 is bad input, -2 dies, -3 panics, -4 answers with its process."""
    if number == -1:
        raise BadInput("minus one")
    if number == -2:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == -3:
        raise BaseException("native panic")
    if number == -4:
        return os.getpid()
    time.sleep(0.02 / (1 + number % 7))
    return number * number


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_come_in_order(workers: int) -> None:
    with OrderedPool(workers, slow_square) as pool:
        assert list(pool.map(range(40))) == [number * number for number in range(40)]
        assert list(pool.map([])) == []
        mixed = [Done("a"), 3, Done("b"), Done("c"), 4]
        assert list(pool.map(mixed)) == ["a", 9, "b", "c", 16]


def test_the_queue_is_bounded() -> None:
    taken = 0

    def tasks() -> Iterator[int]:
        nonlocal taken
        for number in range(100):
            taken += 1
            yield number

    with OrderedPool(2, slow_square) as pool:
        for number, _ in enumerate(pool.map(tasks())):
            assert taken - number <= 7


def test_large_tasks_and_results_block_nobody() -> None:
    with OrderedPool(2, bytes.upper) as pool:
        for result in pool.map([b"a" * 3_000_000] * 8):
            assert result == b"A" * 3_000_000


def test_errors_come_in_their_turn() -> None:
    with OrderedPool(2, slow_square) as pool:
        results = pool.map([0, 1, -1, 2])
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(BadInput, match="minus one"):
            next(results)
    with OrderedPool(2, slow_square) as pool, pytest.raises(Gpt2Error, match="the native encoder failed: native panic"):
        list(pool.map([0, -3]))


def test_a_dead_worker_is_a_sentence() -> None:
    with OrderedPool(2, slow_square) as pool, pytest.raises(Gpt2Error, match=r"was killed by signal 9.*fewer --jobs"):
        list(pool.map([0, 1, -2, 3, 4]))


def test_no_worker_outlives_the_pool() -> None:
    with OrderedPool(3, slow_square) as pool:
        numbers = set(pool.map([-4] * 30))
    assert len(numbers) > 1
    for number in numbers:
        with pytest.raises(ProcessLookupError):
            os.kill(number, 0)


def test_workers_that_may_not_be_started_are_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    fork, forks = os.fork, []

    def no_more() -> int:
        forks.append(1)
        if len(forks) > 2:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return fork()

    monkeypatch.setattr(os, "fork", no_more)
    with pytest.raises(Gpt2Error, match=r"^only 2 of 5 worker processes can be started: .*ulimit -u"), \
            OrderedPool(5, slow_square):
        pass


def test_a_signal_while_workers_start_is_obeyed_soon() -> None:
    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    pool = OrderedPool(1000, slow_square)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)  # waits until the workers' start lets it through
    try:
        with pytest.raises(KeyboardInterrupt), pool:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        assert len(pool._processes) == 1
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        signal.signal(signal.SIGTERM, before)
