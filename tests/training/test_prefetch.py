from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from gpt2cli.errors import BadInput
from gpt2cli.training.prefetch import Prefetch


def counting(made: list[int], stop: int | None = None) -> Iterator[int]:
    number = 0
    while number != stop:
        made.append(number)
        yield number
        number += 1


def wait_until(condition: object, timeout: float = 10) -> None:
    deadline = time.monotonic() + timeout
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_items_come_in_order_and_then_end() -> None:
    ahead = Prefetch(counting([], 100), 3)
    assert list(ahead) == list(range(100))
    with pytest.raises(StopIteration):
        next(ahead)
    ahead.close()


def test_no_more_than_depth_items_wait() -> None:
    made: list[int] = []
    ahead = Prefetch(counting(made), 4)
    wait_until(lambda: len(made) >= 5)
    time.sleep(0.05)
    assert len(made) == 5  # four in the queue, one in the thread's hand
    assert [next(ahead) for _ in range(3)] == [0, 1, 2]
    wait_until(lambda: len(made) == 8)
    ahead.close()


@pytest.mark.parametrize("taken", [0, 1, 50])
def test_close_ends_the_thread_whatever_it_does(taken: int) -> None:
    before = threading.active_count()
    ahead = Prefetch(counting([]), 2)
    for _ in range(taken):
        next(ahead)
    assert threading.active_count() == before + 1
    ahead.close()
    ahead.close()
    assert threading.active_count() == before
    with pytest.raises(StopIteration):
        next(ahead)


def test_an_exception_comes_after_the_items_before_it_and_again() -> None:
    def failing() -> Iterator[int]:
        yield 1
        yield 2
        raise BadInput("frame 7 is damaged")

    ahead = Prefetch(failing(), 8)
    assert [next(ahead), next(ahead)] == [1, 2]
    for _ in range(2):
        with pytest.raises(BadInput, match="frame 7"):
            next(ahead)
    ahead.close()


def test_an_exception_behind_a_full_queue_does_not_keep_the_thread() -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise BadInput("never asked for")

    before = threading.active_count()
    ahead = Prefetch(failing(), 1)
    time.sleep(0.02)
    ahead.close()
    assert threading.active_count() == before


def test_who_forgets_close_can_still_exit() -> None:
    script = ("import itertools\nfrom gpt2cli.training.prefetch import Prefetch\n"
              "ahead = Prefetch(itertools.count(), 2)\nprint(next(ahead))")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"0\n", b"")
