"""N-grams as 128-bit numbers that depend on their words alone: what a Bloom filter holds.

A word's is the 128-bit BLAKE2b of its UTF-8. An n-gram's two halves are the sums of its words' halves, each times an
odd number for its place, modulo 2^64, mixed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from gpt2cli.tokens.word_windows import mixed, multipliers, window_starts, window_sums
from gpt2cli.tokens.words import DOCUMENT_END, MAX_WORD

MOST_WORDS = 1 << 18
"""Words whose digests are kept; then they are forgotten, and made again when they come again."""
_GAP = bytes(16)
_SEED = 1


class WordDigests(dict[str, int]):
    """Words and the places of their digests in `digests`, uint64 [words, 2]; those of gaps are zero."""

    def __init__(self) -> None:
        super().__init__()
        self.clear()

    def clear(self) -> None:
        """Forget all."""
        super().clear()
        self._digests = bytearray(_GAP)
        self[DOCUMENT_END] = 0

    def __missing__(self, word: str) -> int:
        if len(word) > MAX_WORD:
            return 0
        number = self[word] = len(self._digests) // 16
        self._digests += hashlib.blake2b(word.encode(), digest_size=16).digest()
        return number

    def of(self, words: Sequence[str]) -> np.ndarray:
        """Return the digests of `words`, uint64 [words, 2]."""
        if len(self) > MOST_WORDS:
            self.clear()
        places = np.fromiter(map(self.__getitem__, words), dtype=np.int64, count=len(words))
        return np.frombuffer(bytes(self._digests), dtype="<u8").reshape(-1, 2)[places]


class NgramHashes:
    """Gives n-grams their 128 bits; a word_stream.Looker."""

    def __init__(self, n: int) -> None:
        self.n = n
        self._digests = WordDigests()
        self._factors = multipliers(n, _SEED)

    def rows(self, words: list[str]) -> np.ndarray:
        """Return the words' digests."""
        return self._digests.of(words)

    def look(self, rows: np.ndarray) -> np.ndarray:
        """Return the hashes of all windows in order, uint64 [k, 2]."""
        starts = window_starts((rows == 0).all(axis=1), self.n)
        halves = [mixed(window_sums(rows[:, half], starts, self._factors)) for half in (0, 1)]
        return np.stack(halves, axis=1)

    def documents(self, found: np.ndarray) -> np.ndarray:
        """Return no place: of a filter nobody asks where."""
        return np.empty(0, dtype=np.int64)

    def of_grams(self, words: Sequence[str], grams: np.ndarray) -> np.ndarray:
        """Return the hashes of n-grams that are given as numbers of `words`, int [k, n], as uint64 [k, 2]."""
        digests = np.concatenate([self._digests.of(words[at : at + MOST_WORDS])
                                  for at in range(0, len(words), MOST_WORDS)])
        total = np.zeros((len(grams), 2), dtype=np.uint64)
        for place, factor in enumerate(self._factors):
            total += digests[grams[:, place]] * factor
        return mixed(total)


class WindowCount:
    """Only counts n-grams; a word_stream.Looker."""

    def __init__(self, n: int) -> None:
        self.n = n

    def rows(self, words: list[str]) -> np.ndarray:
        """Return whether each word is a gap."""
        sizes = np.fromiter(map(len, words), dtype=np.int64, count=len(words))
        return (sizes == 0) | (sizes > MAX_WORD)

    def look(self, rows: np.ndarray) -> int:
        """Return how many windows have no gap."""
        return len(window_starts(rows, self.n))

    def documents(self, found: int) -> np.ndarray:
        """Return no place."""
        return np.empty(0, dtype=np.int64)
