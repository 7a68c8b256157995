"""Variety of a set of documents: distinct-n, the same at a fixed size, vocabulary, and the Zipf coefficient.

Each comes with its value without every document in turn, in time linear in the text, for the jackknife.
"""

from __future__ import annotations

import numpy as np

from gpt2cli.quality.ngrams import NgramCounts
from gpt2cli.quality.uncertainty import LeftOut

ZIPF_RANKS = 5000
DISTINCT_AT = 1000


def distinct(counts: NgramCounts) -> LeftOut:
    """Return distinct-n: different n-grams of the set over all its n-grams, 0 to 1.

    Li et al. 2016 (A Diversity-Promoting Objective Function for Neural Conversation Models) divide by the number of
    words instead, which for n > 1 is a little more; dividing by n-grams makes 1 mean that none repeats.
    """
    if not counts.n_grams:
        return LeftOut(None, None, 0)
    kinds_D = len(counts.totals_G) - _only_here(counts)
    sizes_D = counts.n_grams - counts.sizes_D
    without = kinds_D / sizes_D if (sizes_D > 0).all() else None
    return LeftOut(len(counts.totals_G) / counts.n_grams, without, _n_with(counts))


def vocabulary(counts: NgramCounts) -> LeftOut:
    """Return how many different units there are; `counts` are those of order 1."""
    kinds = len(counts.totals_G)
    return LeftOut(float(kinds), (kinds - _only_here(counts)).astype(np.float64), _n_with(counts))


def distinct_at(counts: NgramCounts, size: int) -> LeftOut:
    """Return distinct-n at a fixed size: how many different n-grams `size` of the set's hold on average, over `size`.

    Distinct-n falls as a text grows, so sets are compared at one size. The average over all draws of `size` n-grams
    without replacement is exact (Hurlbert 1971, The Nonconcept of Species Diversity: rarefaction): of N n-grams, one
    that occurs f times is missed with probability C(N - f, size) / C(N, size). At size N this is distinct-n. Not
    defined with fewer than `size` n-grams, nor its error when one document more or less decides that.
    """
    n = counts.n_grams
    if n < size:
        return LeftOut(None, None, 0)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    frequencies, kinds = np.unique(counts.totals_G, return_counts=True)
    value = float(kinds @ _hit(frequencies, n, size, log_factorial)) / size
    rest_D = n - counts.sizes_D
    if (rest_D < size).any():
        return LeftOut(value, None, _n_with(counts))
    without = np.empty(len(rest_D))
    for number, rest in enumerate(rest_D.tolist()):
        grams, own = counts.of_document(number)
        totals = counts.totals_G[grams]
        without[number] = (kinds @ _hit(frequencies, rest, size, log_factorial)
                           - _hit(totals, rest, size, log_factorial).sum()
                           + _hit(totals - own, rest, size, log_factorial).sum())
    return LeftOut(value, without / size, _n_with(counts))


def _hit(frequencies: np.ndarray, n: int, size: int, log_factorial: np.ndarray) -> np.ndarray:
    """Return the probabilities that n-grams of such frequencies among n are in a draw of `size`.

    A frequency above n belongs to a document that was left out, and is counted out by the caller with the same value.
    """
    others = np.maximum(n - frequencies, 0)
    missed = np.exp(log_factorial[others] - log_factorial[np.maximum(others - size, 0)]
                    - log_factorial[n] + log_factorial[n - size])
    return 1 - np.where(others >= size, missed, 0)


def zipf(counts: NgramCounts, ranks: int = ZIPF_RANKS) -> LeftOut:
    """Return the Zipf coefficient: s of frequency ~ rank^-s over the `ranks` most frequent units, or all if fewer.

    The least-squares line of log frequency on log rank, all ranks weighed alike, as Holtzman et al. 2020 (The Curious
    Case of Neural Text Degeneration) fit it. `counts` are those of order 1. Not defined with fewer than two units.
    """
    totals = counts.totals_G
    if len(totals) < 2:
        return LeftOut(None, None, 0)
    log_rank = np.log(np.arange(1, min(ranks, len(totals)) + 1))
    sums = np.concatenate([[0.0], np.cumsum(log_rank)])
    squares = np.concatenate([[0.0], np.cumsum(log_rank**2)])
    frequencies, kinds = np.unique(totals, return_counts=True)
    value = _slope(frequencies, kinds, sums, squares)
    without = np.empty(len(counts.sizes_D))
    for number in range(len(without)):
        grams, own = counts.of_document(number)
        here = totals[grams]
        rest = (here - own)[here > own]
        changed = np.repeat([-1, 1], [len(here), len(rest)])
        found = _slope(np.concatenate([frequencies, here, rest]), np.concatenate([kinds, changed]), sums, squares)
        if found is None:
            return LeftOut(value, None, _n_with(counts))
        without[number] = found
    return LeftOut(value, without, _n_with(counts))


def _slope(frequencies: np.ndarray, kinds: np.ndarray, sums: np.ndarray, squares: np.ndarray) -> float | None:
    """Return minus the slope: `kinds` units occur `frequencies` times; sums and squares of log rank, cumulated.

    A frequency may come again with more or fewer units, after its first entry.
    """
    order = np.argsort(-frequencies, kind="stable")
    ends = np.minimum(np.cumsum(kinds[order]), len(sums) - 1)
    starts = np.concatenate([[0], ends[:-1]])
    n = int(ends[-1]) if len(ends) else 0
    if n < 2:
        return None
    log_frequency = np.log(frequencies[order])
    spread = squares[n] - sums[n] ** 2 / n
    together = log_frequency @ (sums[ends] - sums[starts]) - sums[n] * (log_frequency @ (ends - starts)) / n
    return float(-together / spread) + 0.0


def _only_here(counts: NgramCounts) -> np.ndarray:
    """Return for each document how many n-grams are in no other."""
    return counts.sum_by_document(counts.totals_G[counts.grams_E] == counts.counts_E)


def _n_with(counts: NgramCounts) -> int:
    return int((counts.sizes_D > 0).sum())
