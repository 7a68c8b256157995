"""Self-BLEU (Zhu et al. 2018, Texygen): how like a set's documents are, each against others of the set as references.

Zhu et al. take all other documents as references, which is quadratic; here each document's are a fixed number drawn by
seed. With more references BLEU is higher, so only values with the same number compare. A document's BLEU is sacrebleu's
sentence BLEU over the units as they are (exponential smoothing, effective order, closest reference length).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gpt2cli.errors import Interrupted
from gpt2cli.quality.bleu import bleu_of_counts
from gpt2cli.quality.ngrams import MAX_ORDER, NgramCounts
from gpt2cli.quality.uncertainty import LeftOut
from gpt2cli.reporter import Reporter

REFERENCES = 100
STREAM = 2
"""The seed's stream that references are drawn from; the bootstraps have those before it."""


@dataclass(frozen=True)
class SelfBleu:
    """A document's BLEU, float64 [D], nan for one without a unit or alone; their mean; references of each."""

    scores_D: np.ndarray
    mean: LeftOut
    n_references: int


def draw_references(n: int, n_references: int, seed: int) -> np.ndarray:
    """Return n_references other documents of each of n, and one more in reserve where there is one: int64 [n, ...].

    They come in random order; the reserve is the last.
    """
    wanted = min(n_references + 1, n - 1)
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, STREAM])))
    drawn = np.array([generator.choice(n - 1, wanted, replace=False) for _ in range(n)], dtype=np.int64)
    return drawn + (drawn >= np.arange(n)[:, None])


def self_bleu(orders: Sequence[NgramCounts], n_references: int, seed: int, reporter: Reporter) -> SelfBleu:
    """Return self-BLEU of documents given by their n-grams; those without a unit take no part.

    Its value without a document is made from the others' scores, each with the reserve in place of the reference that
    is left out. Raises Interrupted when asked to stop.
    """
    lengths_D = orders[0].sizes_D
    taking = np.flatnonzero(lengths_D > 0)
    scores_D = np.full(len(lengths_D), np.nan)
    n = len(taking)
    if n < 2:
        return SelfBleu(scores_D, LeftOut(None, None, 0), 0)
    n_references = min(n_references, n - 1)
    references = draw_references(n, n_references, seed)
    compare = _Comparison(orders, taking)
    scores, swing = np.empty(n), np.zeros(n)
    for number in range(n):
        if number % 64 == 0:
            if reporter.stopping():
                raise Interrupted
            reporter.progress(number, n, "documents", measure="self-BLEU")
        found = compare.score(number, references[number], n_references)
        scores[number] = found[0]
        swing[references[number, :n_references]] += found[1:] - found[0]
    scores_D[taking] = scores
    # two documents leave nothing to compare when one is left out
    without = (scores.sum() - scores + swing) / (n - 1) if n > 2 else None
    return SelfBleu(scores_D, LeftOut(float(scores.mean()), without, n), n_references)


class _Comparison:
    """The n-grams of all orders side by side, so that a document and its references are compared in one go."""

    def __init__(self, orders: Sequence[NgramCounts], taking: np.ndarray) -> None:
        self._orders = orders
        self._lengths = orders[0].sizes_D[taking]
        offsets = np.concatenate([[0], np.cumsum([len(counts.totals_G) for counts in orders])])
        self._slots = np.zeros(offsets[-1], dtype=np.int32)
        self._grams: list[np.ndarray] = []
        self._counts: list[np.ndarray] = []
        self._order_of: list[np.ndarray] = []
        for document in taking.tolist():
            pairs = [counts.of_document(document) for counts in orders]
            self._grams.append(np.concatenate([grams + offsets[order] for order, (grams, _) in enumerate(pairs)]))
            self._counts.append(np.concatenate([own for _, own in pairs]))
            self._order_of.append(np.repeat(np.arange(MAX_ORDER), [len(grams) for grams, _ in pairs]))
        self._totals = np.stack([counts.sizes_D[taking] for counts in orders], axis=1)

    def score(self, number: int, references: np.ndarray, n_references: int) -> np.ndarray:
        """Return a document's BLEU, and what it would be without each reference but with the reserve, [1 + n]."""
        grams, own = self._grams[number], self._counts[number]
        self._slots[grams] = np.arange(1, len(grams) + 1)
        places = self._slots[np.concatenate([self._grams[other] for other in references])]
        hits = np.flatnonzero(places)
        places = places[hits] - 1
        counts = np.concatenate([self._counts[other] for other in references])[hits]
        whose = np.repeat(np.arange(len(references)), [len(self._grams[other]) for other in references])[hits]
        self._slots[grams] = 0
        matched = _matched(places, np.minimum(counts, own[places]), whose, self._order_of[number], n_references)
        length = int(self._lengths[number])
        closest = _closest(length, self._lengths[references], n_references)
        rows = len(matched)
        return bleu_of_counts(matched, np.broadcast_to(self._totals[number], (rows, MAX_ORDER)), np.full(rows, length),
                              closest, effective_order=True)


def _matched(places: np.ndarray, counts: np.ndarray, whose: np.ndarray, order_of: np.ndarray, n_references: int
             ) -> np.ndarray:
    """Return the matches of each order with all references, then without each but with the reserve, int64 [1 + n, 4].

    places: the document's n-gram; counts: how many of it a reference matches; whose: that reference, n_references for
    the reserve. Without a reference only those n-grams change that it alone matches best.
    """
    reserve = np.zeros(len(order_of), dtype=np.int64)
    spare = whose == n_references
    reserve[places[spare]] = counts[spare]
    places, counts, whose = places[~spare], counts[~spare], whose[~spare]
    ranked = np.lexsort((-counts, places))
    places, counts, whose = places[ranked], counts[ranked], whose[ranked]
    first = np.flatnonzero(np.diff(places, prepend=-1))
    best, second, owner = (np.zeros(len(order_of), dtype=np.int64) for _ in range(3))
    best[places[first]] = counts[first]
    owner[places[first]] = whose[first]
    following = first[np.diff(first, append=len(places)) > 1] + 1
    second[places[following]] = counts[following]
    lost = np.maximum(second, reserve) - np.maximum(best, reserve)
    kept = np.bincount(order_of, weights=np.maximum(best, reserve), minlength=MAX_ORDER)
    changed = np.bincount(owner * MAX_ORDER + order_of, weights=lost, minlength=n_references * MAX_ORDER)
    base = np.bincount(order_of, weights=best, minlength=MAX_ORDER)
    return np.concatenate([base[None], kept + changed.reshape(n_references, MAX_ORDER)])


def _closest(length: int, lengths: np.ndarray, n_references: int) -> np.ndarray:
    """Return the reference length closest to `length`, the shorter of two, for the same cases as _matched."""
    scale = 2 * (int(lengths.max()) + length) + 2
    keys = np.abs(lengths - length) * scale + lengths
    own, reserve = keys[:n_references], keys[n_references:]
    place = int(own.argmin())
    spare = int(reserve[0]) if len(reserve) else None
    others = np.delete(own, place)
    without = np.full(n_references, own[place])
    without[place] = others.min() if len(others) else (spare if spare is not None else own[place])
    if spare is not None:
        without = np.minimum(without, spare)
    return np.concatenate([[own[place]], without]) % scale
