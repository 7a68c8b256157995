"""An external shuffle: documents of any number in an order that depends on the seed and on the documents alone.

First pass: every document goes to the bucket file that the first byte of its hash names. Second pass: each bucket, in
turn, is ordered in memory; one that is too large is first scattered once more, by the next byte.
A hash is of content and seed, so neither the order of the input nor its division into shards matters. Copies of one
document share a hash; each has a place of its own within its bucket.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpt2cli.tokens.blocks import DocumentBlock, join_blocks
from gpt2cli.tokens.spool import Spool

_BUCKETS = 256
_BLOCK_TOKENS = 1 << 17
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


@dataclass(frozen=True)
class ShuffleMemory:
    """What the shuffle holds at once, in bytes: documents on their way to buckets, and the bucket being ordered."""

    scatter: int = 48 << 20
    bucket: int = 64 << 20


def shuffled(blocks: Iterator[DocumentBlock], directory: Path, memory: ShuffleMemory = ShuffleMemory(),
             level: int = 0) -> Iterator[DocumentBlock]:
    """Yield the documents of `blocks` in the order that their hashes give; temporaries live in `directory`.

    The whole input is read before the first block comes. Raises OSError.
    """
    directory.mkdir()
    for number, bucket in enumerate(_scatter(blocks, directory, memory.scatter, level)):
        if bucket.bytes <= memory.bucket:
            yield from _ordered(bucket)
        elif level == 7:
            yield from bucket
        else:
            yield from shuffled(iter(bucket), directory / f"{number:03d}-again", memory, level + 1)
        bucket.remove()
    directory.rmdir()


def _scatter(blocks: Iterator[DocumentBlock], directory: Path, limit: int, level: int) -> list[Spool]:
    buckets = [Spool(directory / f"{number:03d}") for number in range(_BUCKETS)]
    waiting: list[DocumentBlock] = []
    size = 0
    for block in blocks:
        waiting.append(block)
        size += block.tokens.nbytes + 16 * len(block)
        if size >= limit:
            _put(join_blocks(waiting), buckets, level)
            waiting, size = [], 0
    if waiting:
        _put(join_blocks(waiting), buckets, level)
    return buckets


def _put(block: DocumentBlock, buckets: list[Spool], level: int) -> None:
    targets = (block.hashes >> np.uint64(56 - 8 * level)) & np.uint64(_BUCKETS - 1)
    order = np.argsort(targets, kind="stable")
    edges = np.searchsorted(targets[order], np.arange(_BUCKETS + 1))
    for bucket, start, stop in zip(buckets, edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if start < stop:
            bucket.append(block.take(order[start:stop]))


def _ordered(bucket: Spool) -> Iterator[DocumentBlock]:
    blocks = list(bucket)
    if not blocks:
        return
    whole = join_blocks(blocks)
    blocks.clear()
    order = _order(whole)
    stops = np.cumsum(whole.lengths[order])
    start = 0
    while start < len(order):
        done = int(stops[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(stops, done + _BLOCK_TOKENS, side="right")))
        yield whole.take(order[start:stop])
        start = stop


def _order(block: DocumentBlock) -> np.ndarray:
    """Return the documents' numbers in shuffled order, the same for any order in which they came."""
    order = np.argsort(block.hashes, kind="stable")
    hashes = block.hashes[order]
    first = np.concatenate([[True], hashes[1:] != hashes[:-1]])
    starts = np.flatnonzero(first)
    counts = np.diff(starts, append=len(order))
    for start, count in zip(starts[counts > 1].tolist(), counts[counts > 1].tolist(), strict=True):
        _settle_collision(block, order[start : start + count])
    copy = np.arange(len(order)) - starts[np.cumsum(first) - 1]
    return order[np.argsort(_mix(hashes + copy.astype(np.uint64) * _GOLDEN), kind="stable")]


def _settle_collision(block: DocumentBlock, numbers: np.ndarray) -> None:
    """Order documents of one hash by content, in place; copies, which is what they nearly always are, need none."""
    contents = [piece.tobytes() for piece in block.pieces(numbers)]
    if any(content != contents[0] for content in contents):
        numbers[:] = numbers[sorted(range(len(numbers)), key=contents.__getitem__)]


def _mix(values: np.ndarray) -> np.ndarray:
    """The finaliser of MurmurHash3 in Stafford's variant 13: a bijection of 64 bits."""
    values = (values ^ (values >> np.uint64(30))) * _MIX[0]
    values = (values ^ (values >> np.uint64(27))) * _MIX[1]
    return values ^ (values >> np.uint64(31))
