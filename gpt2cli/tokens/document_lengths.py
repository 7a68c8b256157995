"""How long documents are: a histogram in powers of two, small however many there are."""

from __future__ import annotations

import numpy as np


class LengthHistogram:
    """Counts documents by length in tokens, end-of-text included: bin k holds lengths 2^k to 2^(k + 1) - 1."""

    def __init__(self) -> None:
        self._counts = np.zeros(64, dtype=np.int64)
        self.tokens = 0

    def add(self, lengths: np.ndarray) -> None:
        """Count documents of `lengths` (int [d], each at least 1)."""
        self._counts += np.bincount(np.frexp(lengths)[1] - 1, minlength=64)
        self.tokens += int(lengths.sum())

    @property
    def documents(self) -> int:
        """Documents counted."""
        return int(self._counts.sum())

    def bins(self) -> list[tuple[int, int, int]]:
        """Return (least length, greatest length, documents) from the first bin that holds any to the last."""
        used = np.flatnonzero(self._counts)
        return [(1 << k, (2 << k) - 1, int(self._counts[k])) for k in range(used[0], used[-1] + 1)] if len(used) else []

    def record(self) -> dict[str, int]:
        """Return the documents of each bin that holds any, by least length, as index.json keeps them."""
        return {str(least): count for least, _, count in self.bins() if count}
