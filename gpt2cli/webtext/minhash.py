"""MinHash: a document's signature, whose share of values equal to another's estimates their Jaccard similarity.

Value k is the least of a_k x + b_k modulo 2^32 over the upper 32 bits x of the shingles' hashes (Broder 1997, with
linear permutations). The estimate from K values has a standard error of sqrt(J (1 - J) / K), at most .044 for 128.
"""

from __future__ import annotations

import numpy as np

from gpt2cli.tokens.word_windows import mixed
from gpt2cli.webtext.dedup_profiles import DedupProfile
from gpt2cli.webtext.shingles import Shingler

BLOCK = 1024
"""Shingles that go through all permutations at once, so that what is computed on stays in the cache."""
_EMPTY = np.uint32(0xFFFFFFFF)


class MinHasher:
    """Makes signatures of texts for one profile; a profile without bands gives empty ones."""

    def __init__(self, profile: DedupProfile) -> None:
        self._profile = profile
        self._shingler = Shingler(profile.ngram)
        drawn = mixed(np.arange(1, 2 * profile.values + 1, dtype=np.uint64))
        self._factors = (drawn[: profile.values, None] >> np.uint64(32)).astype(np.uint32) | np.uint32(1)
        self._offsets = (drawn[profile.values :, None] >> np.uint64(32)).astype(np.uint32)
        self._work = np.empty(profile.values * BLOCK, dtype=np.uint32)

    def signature(self, text: str) -> np.ndarray | None:
        """Return a text's signature, uint32 [values]; None for a text without words."""
        least = np.full(self._profile.values, _EMPTY)
        found = False
        if not self._profile.bands:
            return None
        for block in self._shingler.shingles(text):
            found = True
            values = (block >> np.uint64(32)).astype(np.uint32)
            for at in range(0, len(values), BLOCK):
                part = values[None, at : at + BLOCK]
                work = self._work[: self._profile.values * part.shape[1]].reshape(self._profile.values, -1)
                np.multiply(part, self._factors, out=work)
                np.add(work, self._offsets, out=work)
                np.minimum(least, work.min(axis=1), out=least)
        return least if found else None


def band_keys(signatures: np.ndarray, profile: DedupProfile) -> np.ndarray:
    """Return the 64-bit keys of the bands of signatures [k, values], uint64 [k, bands]; another band, another key."""
    rows = signatures.reshape(len(signatures), profile.bands, profile.rows)
    keys = np.broadcast_to(mixed(np.arange(1, profile.bands + 1, dtype=np.uint64)), rows.shape[:2])
    for row in range(profile.rows):
        keys = mixed(keys ^ rows[:, :, row])
    return keys


def similarities(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the share of equal values of signatures [k, values] and [k, values] (or [values]), float64 [k]."""
    return np.mean(one == other, axis=1)
