"""The windows of the data order as rows of tokens, each shard frame decoded about once an epoch, in bounded memory.

One buffer of the order is held decoded, a row for each window. As its rows are served they make room for the blocks
of the next buffer, so that decoding keeps pace with reading and a second buffer is never needed. Memory: the rows of
one buffer, (T + 1) / T times 64 Mi tokens at most (128 MiB of uint16 at T = 1024), one block, 24 bytes for each window
while a buffer's order is computed, and what the stream keeps of its files (shard_set: 64 open, half a MiB each).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from gpt2cli.errors import Gpt2Error
from gpt2cli.tokens.order import Buffer, DataOrder


class Tokens(Protocol):
    """A stream of token ids that can be read anywhere: records.shard_set.TokenStream, or anything alike."""

    def __len__(self) -> int: ...

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return tokens start to stop."""


class _Filling:
    """A buffer on its way into memory: which row each of its local windows got, and how many blocks are there."""

    def __init__(self, buffer: Buffer) -> None:
        self.buffer = buffer
        self.row_of = np.empty(buffer.n_windows, dtype=np.int32)
        self.n_blocks = 0
        self.failed = False

    @property
    def complete(self) -> bool:
        """Whether all blocks are there."""
        return self.n_blocks == len(self.buffer.blocks)


class WindowReader:
    """Serves samples by number. Meant to be read forward: a step back past what was given up decodes a buffer anew.

    For one thread at a time. Samples that are passed over (another rank's) cost nothing but their decoding.
    """

    def __init__(self, tokens: Tokens, order: DataOrder, n_ctx: int) -> None:
        self._tokens, self._order, self._n_ctx = tokens, order, n_ctx
        self._rows = np.empty((0, n_ctx + 1))
        self._current: Buffer | None = None
        self._ahead: _Filling | None = None
        self._given_up = self._used = 0
        self._start_over()

    def read(self, first: int, count: int) -> np.ndarray:
        """Return the windows of samples first, first + 1, ... as a new array [count, T + 1] of the tokens' type.

        Raises BadInput or OSError where the tokens do, when a buffer is entered that they prevent from being whole.
        """
        parts, stop = [], first + count
        while first < stop:
            buffer = self._enter(first)
            end = min(stop, buffer.end)
            chosen = self._row_at[first - buffer.first : end - buffer.first]
            parts.append(np.take(self._rows, chosen, axis=0))
            self._used = max(self._used, end)
            self._read_ahead(buffer)
            first = end
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    def _start_over(self) -> None:
        """Give up everything that is held."""
        self._current = self._ahead = None
        self._free = np.arange(self._order.most_windows, dtype=np.int32)
        self._n_free = len(self._free)
        self._row_of = self._row_at = np.empty(0, dtype=np.int32)
        self._given_up = self._used = 0

    def _enter(self, sample: int) -> Buffer:
        """Have the buffer of `sample` in memory, with that sample's row and all later ones."""
        current = self._current
        if current and current.first <= sample < current.end and sample >= self._given_up:
            return current
        buffer = self._order.buffer_at(sample)
        if self._order.n_buffers == 1 and current:
            self._begin(buffer, self._row_of)
            return buffer
        ahead = self._ahead if current and sample >= current.end else None
        if ahead and ahead.buffer.first == buffer.first and current:
            self._used = current.end
            self._give_up()
        else:
            self._start_over()
            ahead = _Filling(buffer)
        self._current = self._ahead = None
        while not ahead.complete:
            self._load_block(ahead)
        self._begin(ahead.buffer, ahead.row_of)
        return ahead.buffer

    def _begin(self, buffer: Buffer, row_of: np.ndarray) -> None:
        self._current, self._row_of = buffer, row_of
        self._row_at = row_of[self._order.local_windows(buffer, buffer.first, buffer.end)]
        self._given_up = self._used = buffer.first

    def _read_ahead(self, current: Buffer) -> None:
        """Load the blocks of the next buffer that served rows have made room for."""
        if self._order.n_buffers == 1:
            return
        if self._ahead is None:
            self._ahead = _Filling(self._order.buffer_at(current.end))
        ahead = self._ahead
        while not ahead.complete and not ahead.failed:
            if self._n_free + self._used - self._given_up < self._order.block:
                return
            self._give_up()
            try:
                self._load_block(ahead)
            except (Gpt2Error, OSError):
                # the rows of the buffer at hand are sound: they are served first, and the failure met again after them
                ahead.failed = True

    def _give_up(self) -> None:
        """Let the rows that were served be used again."""
        assert self._current is not None
        rows = self._row_at[self._given_up - self._current.first : self._used - self._current.first]
        self._free[self._n_free : self._n_free + len(rows)] = rows
        self._n_free += len(rows)
        self._given_up = self._used

    def _load_block(self, ahead: _Filling) -> None:
        T, size = self._n_ctx, self._order.block
        first = int(ahead.buffer.blocks[ahead.n_blocks]) * size
        last = min(first + size, self._order.n_windows)
        tokens = self._tokens.read(first * T, last * T + 1)
        if not len(self._rows):
            self._rows = np.empty((self._order.most_windows, T + 1), dtype=tokens.dtype)
        self._n_free -= last - first
        rows = self._free[self._n_free : self._n_free + last - first]
        self._rows[rows, :T] = tokens[:-1].reshape(-1, T)
        self._rows[rows, T] = tokens[T::T]
        ahead.row_of[ahead.n_blocks * size : ahead.n_blocks * size + last - first] = rows
        ahead.n_blocks += 1
