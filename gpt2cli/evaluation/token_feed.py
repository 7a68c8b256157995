"""One document's ids as they arrive, held no longer than a window may still need them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


class TokenFeed:
    """The sequence of a document: end-of-text if `bos` is an id, then the ids of `chunks`."""

    def __init__(self, chunks: Iterable[np.ndarray], bos: int | None) -> None:
        self._chunks = iter(chunks)
        self._held = np.array([] if bos is None else [bos], dtype=np.int64)
        self._dropped = 0

    def reach(self, count: int) -> int:
        """Return min(count, targets): how many of the first `count` targets there are. Reads on as far as needed."""
        while self._end <= count and (chunk := next(self._chunks, None)) is not None:
            if len(chunk):
                self._held = np.concatenate([self._held, chunk]) if len(self._held) else chunk
        return max(0, min(count, self._end - 1))

    def take(self, start: int, stop: int) -> np.ndarray:
        """Return sequence[start:stop] as int64; it must have been reached and not be forgotten."""
        return self._held[start - self._dropped : stop - self._dropped].astype(np.int64)

    def forget(self, before: int) -> None:
        """Drop what stands before `before` of the sequence; a view keeps whole chunks until the next is joined."""
        if before > self._dropped:
            self._held = self._held[before - self._dropped :]
            self._dropped = before

    @property
    def _end(self) -> int:
        return self._dropped + len(self._held)
