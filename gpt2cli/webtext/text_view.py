"""A text as the rules of the filter see it: words, lines, paragraphs, n-grams, each worked out once, when asked for."""

from __future__ import annotations

import functools
import re
from collections.abc import Hashable, Iterator, Sequence

import numpy as np

_BLANK_LINES = re.compile(r"\n\s*\n")


class TextView:
    """One text. Words are what white space parts; lines and paragraphs are stripped, blank ones left out."""

    def __init__(self, text: str) -> None:
        self.text = text

    @functools.cached_property
    def words(self) -> list[str]:
        """The words."""
        return self.text.split()

    @functools.cached_property
    def lines(self) -> list[str]:
        """The lines that are not blank."""
        return [line for line in map(str.strip, self.text.split("\n")) if line]

    @functools.cached_property
    def paragraphs(self) -> list[str]:
        """The parts between blank lines."""
        return [part for part in map(str.strip, _BLANK_LINES.split(self.text)) if part]

    @functools.cached_property
    def lower(self) -> str:
        """The text in lower case."""
        return self.text.lower()

    @functools.cached_property
    def word_lengths(self) -> np.ndarray:
        """Characters of each word, int64 [words]."""
        return np.fromiter(map(len, self.words), np.int64, len(self.words))

    @functools.cached_property
    def _grams(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        numbers: dict[str, int] = {}
        ids = np.fromiter((numbers.setdefault(word, len(numbers)) for word in self.words), np.int64, len(self.words))
        return {1: (ids, np.bincount(ids) if len(ids) else np.zeros(0, np.int64))}

    def grams(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the n-grams of words: a number for each place they begin at, and how often each number occurs."""
        if n not in self._grams:
            before, words = self.grams(n - 1)[0], self.grams(1)[0]
            pairs = before[: max(len(words) - n + 1, 0)] * (len(words) + 1) + words[n - 1 :]
            _, ids, counts = np.unique(pairs, return_inverse=True, return_counts=True)
            self._grams[n] = ids, counts
        return self._grams[n]

    def share_within(self, starts: np.ndarray, n: int) -> float:
        """Return the share of the words' characters that n-grams beginning where `starts` is true cover together."""
        edges = np.zeros(len(self.words) + 1, np.int64)
        edges[: len(starts)] += starts
        edges[n : n + len(starts)] -= starts
        covered = np.cumsum(edges)[:-1] > 0
        total = int(self.word_lengths.sum())
        return float(self.word_lengths[covered].sum()) / total if total else 0.0


def repeats(items: Sequence[Hashable]) -> Iterator[int]:
    """Yield the place of every item that an earlier one equals."""
    seen: set[Hashable] = set()
    for place, item in enumerate(items):
        if item in seen:
            yield place
        seen.add(item)
