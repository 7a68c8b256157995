"""The test side's n-grams, indexed exactly: no n-gram of a train text is taken for another.

Words of the test side have numbers; any other word is a gap. Windows are looked up by a hash: no two n-grams of the
index share one (else another is drawn), and a window whose hash is in the index is compared with its n-gram word for
word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np

from gpt2cli.tokens.word_windows import mixed, multipliers, window_starts, window_sums
from gpt2cli.tokens.words import DOCUMENT_END, MAX_WORD

GAP = -1
_SPARE_BITS = 4
"""The table that most windows fail at has 16 places or more for every n-gram."""
_MOST_BITS = 28


class TestVocabulary(dict[str, int]):
    """The words of the test side and their numbers; a word asked for gets the next one, a gap's is GAP."""

    __test__ = False  # its name begins as pytest's classes do

    def __init__(self) -> None:
        super().__init__({DOCUMENT_END: GAP})

    def __missing__(self, word: str) -> int:
        number = GAP if len(word) > MAX_WORD else len(self)
        if number != GAP:
            self[word] = number
        return number

    def numbers(self, words: Sequence[str]) -> np.ndarray:
        """Return int32 [words]; new words are taken up."""
        return np.fromiter(map(self.__getitem__, words), dtype=np.int32, count=len(words))

    def known(self, words: Sequence[str]) -> np.ndarray:
        """Return int32 [words], GAP for what is no word of the test side."""
        return np.fromiter(map(self.get, words, repeat(GAP)), dtype=np.int32, count=len(words))


@dataclass(frozen=True)
class Matches:
    """Which n-grams of the index were met, each once, ascending, int32 [k], and where its first window begins."""

    grams: np.ndarray
    places: np.ndarray


class NgramIndex:
    """The n-grams of `numbers`, int32 [words] with GAP between documents.

    gram_at: for each word the number of the n-gram that begins there, else -1; size: how many n-grams are distinct.
    """

    def __init__(self, vocabulary: TestVocabulary, numbers: np.ndarray, n: int) -> None:
        self.n = n
        self._vocabulary = vocabulary
        self._numbers = numbers
        starts = window_starts(numbers < 0, n)
        seed = 0
        while not self._take(starts, seed):
            seed += 1
        self._shift = np.uint64(64 - min(_MOST_BITS, max(10, self.size.bit_length() + _SPARE_BITS)))
        self._likely = np.zeros(1 << (64 - int(self._shift)), dtype=bool)
        self._likely[self._hashes >> self._shift] = True

    def _take(self, starts: np.ndarray, seed: int) -> bool:
        """Number the n-grams by a hash; return whether it tells all of them apart."""
        self._factors = multipliers(self.n, seed)
        hashes = self._hash(self._numbers, starts)
        order = np.argsort(hashes, kind="stable")
        ordered = hashes[order]
        new = np.ones(len(order), dtype=bool)
        new[1:] = ordered[1:] != ordered[:-1]
        gram = np.cumsum(new, dtype=np.int64) - 1
        self._hashes, self._first = ordered[new], starts[order[new]]
        self.size = len(self._hashes)
        self.gram_at = np.full(len(self._numbers), -1, dtype=np.int32)
        self.gram_at[starts[order]] = gram
        return bool(self._same(self._numbers, starts[order], self._first[gram]).all())

    def rows(self, words: list[str]) -> np.ndarray:
        """Return the numbers of a train text's words; see word_stream.Looker."""
        return self._vocabulary.known(words)

    def look(self, rows: np.ndarray) -> Matches:
        """Return the n-grams of the index that are in a train text's rows."""
        starts = window_starts(rows < 0, self.n)
        hashes = self._hash(rows, starts)
        likely = np.flatnonzero(self._likely[hashes >> self._shift])
        starts, hashes = starts[likely], hashes[likely]
        grams = np.searchsorted(self._hashes, hashes)
        grams[grams == self.size] = 0
        equal = np.flatnonzero(self._hashes[grams] == hashes) if self.size else likely[:0]
        starts, grams = starts[equal], grams[equal]
        equal = np.flatnonzero(self._same(rows, starts, self._first[grams]))
        found, first = np.unique(grams[equal], return_index=True)
        return Matches(found.astype(np.int32), starts[equal][first])

    def rows_of_grams(self) -> np.ndarray:
        """Return the numbers of each n-gram's words, int32 [size, n]."""
        rows: np.ndarray = self._numbers[self._first[:, None] + np.arange(self.n)]
        return rows

    def documents(self, found: Matches) -> np.ndarray:
        """Return where the n-grams found begin."""
        return found.places

    def _hash(self, numbers: np.ndarray, starts: np.ndarray) -> np.ndarray:
        return mixed(window_sums(numbers, starts, self._factors))

    def _same(self, rows: np.ndarray, starts: np.ndarray, firsts: np.ndarray) -> np.ndarray:
        same = np.ones(len(starts), dtype=bool)
        for offset in range(self.n):
            same &= rows[starts + offset] == self._numbers[firsts + offset]
        return same
