"""Work done ahead in a thread: the items of an iterator, a bounded number of them before they are asked for."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Prefetch(Generic[Item]):
    """Iterates over `items` in a thread, at most `depth` items ahead and in the same order; close() ends the thread.

    What `items` raises is raised by next() when its turn comes, after all the items before it.
    """

    def __init__(self, items: Iterator[Item], depth: int) -> None:
        self._queue: queue.Queue[tuple[Item | None, BaseException | None]] = queue.Queue(depth)
        self._stop = threading.Event()
        self._ended: BaseException | None = None
        # a daemon only as a last resort: whoever forgets close() shall still be able to exit
        self._thread = threading.Thread(target=self._run, args=(items,), name="gpt2-prefetch", daemon=True)
        self._thread.start()

    def __iter__(self) -> Prefetch[Item]:
        return self

    def __next__(self) -> Item:
        if self._ended is not None:
            raise self._ended
        item, self._ended = self._queue.get()
        if self._ended is not None:
            raise self._ended
        return item  # type: ignore[return-value]

    def close(self) -> None:
        """End the thread, once the item that it works on is done; drop what was fetched."""
        self._stop.set()
        with contextlib.suppress(queue.Empty):
            while True:
                self._queue.get_nowait()
        self._thread.join()
        self._ended = self._ended or StopIteration()

    def _run(self, items: Iterator[Item]) -> None:
        ended: BaseException = StopIteration()
        try:
            for item in items:
                self._queue.put((item, None))
                if self._stop.is_set():
                    return
        except BaseException as error:
            ended = error
        if not self._stop.is_set():
            self._queue.put((None, ended))
