"""Data order: which windows of the training stream make up a step. A pure function of (seed, sample number).

Window i is tokens [i T, i T + T] of the concatenated shards: T inputs and their T targets. An epoch visits every
window once, in an order given by a keyed permutation that needs no table, so any step can be entered directly.
"""

from __future__ import annotations

import numpy as np

from gpt2cli.errors import UsageFault

_ROUNDS = 6
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_GOLDEN = 0x9E3779B97F4A7C15


def count_windows(n_tokens: int, n_ctx: int) -> int:
    """Return the windows of `n_ctx` inputs (and one more target) that `n_tokens` hold; UsageFault when none."""
    windows = (n_tokens - 1) // n_ctx
    if windows < 1:
        raise UsageFault(f"the training split has {n_tokens} tokens, too few for a context of {n_ctx}; "
                         "give a smaller --context or more shards")
    return windows


def window_indices(seed: int, n_windows: int, first: int, count: int) -> np.ndarray:
    """Return the windows (int64, `count`) of samples first, first + 1, ...; sample s is of epoch s // n_windows."""
    samples = np.arange(first, first + count, dtype=np.int64)
    epochs, positions = np.divmod(samples, n_windows)
    out = np.empty(count, dtype=np.int64)
    for epoch in np.unique(epochs):
        chosen = epochs == epoch
        out[chosen] = permute(positions[chosen], n_windows, seed, int(epoch))
    return out


def permute(positions: np.ndarray, n: int, seed: int, epoch: int) -> np.ndarray:
    """Map positions (int64, each below n) through the permutation of range(n) keyed by (seed, epoch).

    A balanced Feistel network on the next even power of two, walking cycles back into range (Black and Rogaway 2002).
    """
    half = np.uint64(max(1, ((n - 1).bit_length() + 1) // 2))
    keys = [_mix(np.array([(seed * _GOLDEN + epoch * 0x632BE59BD9B4E019 + r) % 2**64], dtype=np.uint64))[0]
            for r in range(_ROUNDS)]
    values = _feistel(positions.astype(np.uint64), half, keys)
    while (outside := values >= n).any():
        values[outside] = _feistel(values[outside], half, keys)
    return values.astype(np.int64)


def _feistel(values: np.ndarray, half: np.uint64, keys: list[np.uint64]) -> np.ndarray:
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = values >> half, values & mask
    for key in keys:
        left, right = right, left ^ (_mix(right ^ key) & mask)
    return (left << half) | right


def _mix(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * _MIX[0]
        values = (values ^ (values >> np.uint64(27))) * _MIX[1]
        return values ^ (values >> np.uint64(31))
