"""Windows of n words in a row of many, and numbers that stand for them."""

from __future__ import annotations

import numpy as np


def window_starts(gaps: np.ndarray, n: int) -> np.ndarray:
    """Return where the windows of n words without a gap begin, int64 [k]; `gaps` is bool [words]."""
    if len(gaps) < n:
        return np.empty(0, dtype=np.int64)
    before = np.zeros(len(gaps) + 1, dtype=np.int64)
    np.cumsum(gaps, out=before[1:])
    return np.flatnonzero(before[n:] == before[:-n])


def multipliers(n: int, seed: int) -> np.ndarray:
    """Return n odd random numbers, uint64 [n], the same for the same seed."""
    drawn: np.ndarray = mixed(np.arange(1, n + 1, dtype=np.uint64) + np.uint64(seed << 20)) | np.uint64(1)
    return drawn


def window_sums(values: np.ndarray, starts: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Return for each window the sum of its values [words] times `factors` [n], modulo 2^64, as uint64 [k]."""
    total = np.zeros(len(starts), dtype=np.uint64)
    for offset, factor in enumerate(factors):
        total += values[starts + offset].astype(np.uint64) * factor
    return total


def running_sums(values: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Return window_sums for the windows that begin at every word, of uint64 values [words, at least n]."""
    count = len(values) - len(factors) + 1
    total: np.ndarray = values[:count] * factors[0]
    for offset, factor in enumerate(factors[1:], 1):
        total += values[offset : offset + count] * factor
    return total


def mixed(numbers: np.ndarray) -> np.ndarray:
    """Return uint64 numbers whose every bit depends on all of `numbers`' (the finaliser of splitmix64, a bijection)."""
    mix = numbers ^ (numbers >> np.uint64(30))
    mix = mix * np.uint64(0xBF58476D1CE4E5B9)
    mix = mix ^ (mix >> np.uint64(27))
    mix = mix * np.uint64(0x94D049BB133111EB)
    return mix ^ (mix >> np.uint64(31))
