"""Data order: which windows of the training stream make up a step. A pure function of (seed, sample number).

Window i is tokens [i T, i T + T] of the concatenated shards: T inputs and their T targets, the last of them the first
input of window i + 1. The fewer than T + 1 tokens after the last whole window are in none. Sample s, counted from 0
over the whole run, is of epoch s // n_windows; an epoch visits every window once. Step k takes samples (k - 1) B to
k B - 1, so the step in which an epoch ends takes its last windows and goes on with the first of the next.

Compressed shards are decoded frame by frame, so an order without any structure would decode a frame for every window.
Ours is a shuffle on two levels. Blocks of consecutive windows, about 2 Mi tokens each, are permuted; each 32 of them,
from all over the corpus, make a buffer of about 64 Mi tokens, and a buffer's windows are permuted among themselves.
So whoever holds one buffer decodes each block once an epoch: frames that two blocks share, at most one more for every
16, twice. A corpus of at most one buffer is one permutation of all its windows. Neither level needs a table: the
permutations are keyed by (seed, epoch), and sample s is found directly, on any rank, after any interruption.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gpt2cli.errors import UsageFault
from gpt2cli.tokens.permutation import permute, unpermute

BLOCK_TOKENS = 1 << 21
"""Tokens in a block, about: 16 frames, of which a neighbour needs one too."""
BUFFER_BLOCKS = 32
"""Most blocks in a buffer: 64 Mi tokens, 128 MiB of uint16."""
ONE_PERMUTATION, BLOCKS_IN_BUFFERS = 1, 2
_BLOCK_STREAM = -1


def count_windows(n_tokens: int, n_ctx: int) -> int:
    """Return the windows of `n_ctx` inputs (and one more target) that `n_tokens` hold; UsageFault when none."""
    windows = (n_tokens - 1) // n_ctx
    if windows < 1:
        raise UsageFault(f"the training split has {n_tokens} tokens, too few for a context of {n_ctx}; "
                         "give a smaller --context or more shards")
    return windows


def block_windows(n_ctx: int) -> int:
    """Return the windows of a block for a context of `n_ctx`."""
    return max(1, BLOCK_TOKENS // n_ctx)


def order_version(n_tokens: int, n_ctx: int) -> int:
    """Return which order a run on `n_tokens` has: 1, one permutation of all windows; 2, blocks in buffers.

    Runs that recorded none are of order 1, whatever their size.
    """
    windows = count_windows(n_tokens, n_ctx)
    return BLOCKS_IN_BUFFERS if windows > BUFFER_BLOCKS * block_windows(n_ctx) else ONE_PERMUTATION


@dataclass(frozen=True)
class Buffer:
    """Windows that are shuffled among themselves. Local window l is window l % block of blocks[l // block]."""

    epoch: int
    number: int
    first: int
    """Sample number of its first window."""
    n_windows: int
    blocks: np.ndarray
    """Block numbers, int64; only the corpus's last block may be shorter, and it comes last."""

    @property
    def end(self) -> int:
        """Sample number after its last window."""
        return self.first + self.n_windows


@dataclass(frozen=True)
class DataOrder:
    """The order of `n_windows` windows under `seed`, in blocks of `block` windows and buffers of `buffer_blocks`."""

    seed: int
    n_windows: int
    block: int
    buffer_blocks: int = BUFFER_BLOCKS

    @property
    def n_blocks(self) -> int:
        """Blocks of the corpus; the last may be shorter."""
        return -(-self.n_windows // self.block)

    @property
    def n_buffers(self) -> int:
        """Buffers of an epoch, of equally many blocks within one."""
        return -(-self.n_blocks // self.buffer_blocks)

    @property
    def most_windows(self) -> int:
        """No buffer has more windows."""
        return min(self.n_windows, -(-self.n_blocks // self.n_buffers) * self.block)

    def windows(self, first: int, count: int) -> np.ndarray:
        """Return the windows (int64, [count]) of samples first, first + 1, ..."""
        out = np.empty(count, dtype=np.int64)
        for buffer, start, stop in self.pieces(first, count):
            local = self.local_windows(buffer, start, stop)
            out[start - first : stop - first] = buffer.blocks[local // self.block] * self.block + local % self.block
        return out

    def pieces(self, first: int, count: int) -> Iterator[tuple[Buffer, int, int]]:
        """Yield (buffer, first sample, sample after the last) for each buffer that samples first, ... fall into."""
        stop = first + count
        while first < stop:
            buffer = self.buffer_at(first)
            end = min(stop, buffer.end)
            yield buffer, first, end
            first = end

    def local_windows(self, buffer: Buffer, start: int, stop: int) -> np.ndarray:
        """Return the local windows (int64) of samples start to stop, all of `buffer`."""
        positions = np.arange(start - buffer.first, stop - buffer.first)
        return permute(positions, buffer.n_windows, self.seed, buffer.epoch, buffer.number)

    def buffer_at(self, sample: int) -> Buffer:
        """Return the buffer that sample number `sample` falls into."""
        epoch, position = divmod(sample, self.n_windows)
        if self.n_buffers == 1:
            return Buffer(epoch, 0, epoch * self.n_windows, self.n_windows, np.arange(self.n_blocks))
        last = self.n_blocks - 1
        last_at = int(unpermute(np.array([last]), self.n_blocks, self.seed, epoch, _BLOCK_STREAM)[0])

        def first_block(number: int) -> int:
            return number * self.n_blocks // self.n_buffers

        def first_window(number: int) -> int:
            missing = self.n_blocks * self.block - self.n_windows if last_at < first_block(number) else 0
            return first_block(number) * self.block - missing

        number = bisect_right(range(self.n_buffers), position, key=first_window) - 1
        ranks = np.arange(first_block(number), first_block(number + 1))
        blocks = permute(ranks, self.n_blocks, self.seed, epoch, _BLOCK_STREAM)
        blocks = np.concatenate([blocks[blocks != last], blocks[blocks == last]])
        start, end = first_window(number), first_window(number + 1)
        return Buffer(epoch, number, epoch * self.n_windows + start, end - start, blocks)


def data_order(seed: int, n_tokens: int, n_ctx: int) -> DataOrder:
    """Return the order in which training with context `n_ctx` visits `n_tokens`; UsageFault when they are too few."""
    return DataOrder(seed, count_windows(n_tokens, n_ctx), block_windows(n_ctx))
