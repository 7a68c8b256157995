"""Keyed permutations of range(n) that need no table: any value can be asked for by itself, and found again.

A balanced Feistel network (Luby and Rackoff 1988) on the next even power of two, walking cycles back into range
(Black and Rogaway 2002). The round function is splitmix64's finaliser, so equal keys give equal orders everywhere.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_ROUNDS = 6
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_SEED = 0x9E3779B97F4A7C15
_EPOCH = 0x632BE59BD9B4E019
_STREAM = 0xD1342543DE82EF95

Network = Callable[[np.ndarray, np.uint64, list[np.ndarray]], np.ndarray]


def permute(positions: np.ndarray, n: int, seed: int, epoch: int, stream: int = 0) -> np.ndarray:
    """Map positions (integers [k], each below n) through the permutation of range(n) keyed by the other three: int64.

    Different `stream` numbers give unrelated permutations under one seed and epoch.
    """
    return _walk(positions, n, _keys(seed, epoch, stream), _forward)


def unpermute(values: np.ndarray, n: int, seed: int, epoch: int, stream: int = 0) -> np.ndarray:
    """Map values (integers [k], each below n) back to the positions that permute() takes them from: int64."""
    return _walk(values, n, _keys(seed, epoch, stream), _backward)


def _walk(values: np.ndarray, n: int, keys: list[np.ndarray], network: Network) -> np.ndarray:
    half = np.uint64(max(1, ((n - 1).bit_length() + 1) // 2))
    values = network(values.astype(np.uint64), half, keys)
    while (outside := np.flatnonzero(values >= n)).size:
        values[outside] = network(values[outside], half, keys)
    return values.astype(np.int64)


def _keys(seed: int, epoch: int, stream: int) -> list[np.ndarray]:
    base = seed * _SEED + epoch * _EPOCH + stream * _STREAM
    return [_mix(np.array([(base + r) % 2**64], dtype=np.uint64)) for r in range(_ROUNDS)]


def _forward(values: np.ndarray, half: np.uint64, keys: list[np.ndarray]) -> np.ndarray:
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = values >> half, values & mask
    for key in keys:
        left, right = right, left ^ (_mix(right ^ key) & mask)
    return (left << half) | right


def _backward(values: np.ndarray, half: np.uint64, keys: list[np.ndarray]) -> np.ndarray:
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = values >> half, values & mask
    for key in reversed(keys):
        left, right = right ^ (_mix(left ^ key) & mask), left
    return (left << half) | right


def _mix(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * _MIX[0]
        values = (values ^ (values >> np.uint64(27))) * _MIX[1]
        return values ^ (values >> np.uint64(31))
