"""N-grams of a set of documents, counted once: which are in which document, and how often. None crosses documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MAX_ORDER = 4


@dataclass(frozen=True)
class NgramCounts:
    """N-grams of one order in D documents: an entry for each document and each n-gram in it, E in all, by document.

    grams_E: the n-gram, 0 to G - 1. counts_E: how often the document has it. starts_D1: where each document's entries
    begin, and E. totals_G: how often each is in all documents together. sizes_D: n-grams of each document, repeats too.
    """

    order: int
    grams_E: np.ndarray
    counts_E: np.ndarray
    starts_D1: np.ndarray
    totals_G: np.ndarray
    sizes_D: np.ndarray

    @property
    def n_grams(self) -> int:
        """All n-grams, repeats too."""
        return int(self.sizes_D.sum())

    @property
    def distinct_D(self) -> np.ndarray:
        """Different n-grams in each document, int64 [D]."""
        return np.diff(self.starts_D1)

    def of_document(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return one document's n-grams and their counts."""
        entries = slice(self.starts_D1[number], self.starts_D1[number + 1])
        return self.grams_E[entries], self.counts_E[entries]

    def sum_by_document(self, values_E: np.ndarray) -> np.ndarray:
        """Return the sum of an entry's values over each document, float64 [D]."""
        sums = np.concatenate([[0.0], np.cumsum(values_E, dtype=np.float64)])
        return sums[self.starts_D1[1:]] - sums[self.starts_D1[:-1]]


def count_ngrams(documents: Sequence[np.ndarray], max_order: int = MAX_ORDER) -> list[NgramCounts]:
    """Return the counts of orders 1 to max_order of documents given as the numbers of their units, int64 [n] each."""
    n_documents = len(documents)
    lengths_D = np.array([len(document) for document in documents], dtype=np.int64)
    flat_N = np.concatenate([np.zeros(0, dtype=np.int64), *documents])
    document_N = np.repeat(np.arange(n_documents), lengths_D)
    left_N = np.repeat(np.cumsum(lengths_D), lengths_D) - np.arange(len(flat_N))  # units up to the document's end
    units_N = np.unique(flat_N, return_inverse=True)[1]
    n_units = int(units_N.max()) + 1 if len(units_N) else 0
    grams_N, found = units_N, []
    for order in range(1, max_order + 1):
        places = np.flatnonzero(left_N >= order)
        if order == 1:
            grams = units_N
        else:
            grams = np.unique(grams_N[places] * n_units + units_N[places + order - 1], return_inverse=True)[1]
            grams_N = np.zeros_like(units_N)
            grams_N[places] = grams
        found.append(_counts(order, grams, document_N[places], np.maximum(lengths_D - order + 1, 0)))
    return found


def _counts(order: int, grams: np.ndarray, documents: np.ndarray, sizes_D: np.ndarray) -> NgramCounts:
    n_kinds = int(grams.max()) + 1 if len(grams) else 0
    keys_E, counts_E = np.unique(documents * max(n_kinds, 1) + grams, return_counts=True)
    document_E, grams_E = np.divmod(keys_E, max(n_kinds, 1))
    starts = np.searchsorted(document_E, np.arange(len(sizes_D) + 1))
    totals_G = np.bincount(grams, minlength=n_kinds)
    return NgramCounts(order, grams_E, counts_E, starts, totals_G, sizes_D)
