"""From shards to tensors: the windows of a step, and the fixed validation set."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from gpt2cli.errors import Gpt2Error
from gpt2cli.tokens.order import data_order
from gpt2cli.tokens.window_reader import Tokens, WindowReader
from gpt2cli.training.prefetch import Prefetch

PREFETCHED = 8
"""Groups of micro-batches that wait for the model at most: 8 bytes a token."""
GROUP_TOKENS = 8192
"""A group is one micro-batch, or as many as have so many tokens: to wake a thread takes as long as to read hundreds."""


class TrainingBatches:
    """The micro-batches of any step, by number; a thread makes those of the steps that follow ahead of time."""

    def __init__(
        self, tokens: Tokens, *, n_ctx: int, batch: int, micro_batch: int, seed: int, device: torch.device,
        share: range | None = None,
    ) -> None:
        """`batch` and `micro_batch` in sequences of `n_ctx` tokens; UsageFault when `tokens` hold none.

        share: the numbers of the micro-batches of a step that this rank computes, None for all.
        """
        self._order = data_order(seed, len(tokens), n_ctx)
        self._reader = WindowReader(tokens, self._order, n_ctx)
        self._batch, self._micro, self._device = batch, micro_batch, device
        self._share = range(-(-batch // micro_batch)) if share is None else share
        self._whole = share is None
        self._ahead: Prefetch[list[Tensor]] | None = None
        self._group = max(1, GROUP_TOKENS // (micro_batch * n_ctx))
        self._next_step = 0
        self._held: deque[Tensor] = deque()

    def first_sequences(self, step: int, count: int) -> tuple[Tensor, Tensor]:
        """Return (inputs, targets) of the first `count` sequences of `step`, or of all; (B, T) int64.

        micro_batches(step) yields them all the same. Raises as it does.
        """
        ahead = self._begin(step)
        needed = -(-min(count, self._batch) // self._micro)
        while len(self._held) < needed:
            self._held.extend(next(ahead))
        rows = torch.cat(list(islice(self._held, needed)))[:count].to(self._device, non_blocking=True)
        return rows[:, :-1], rows[:, 1:]

    def sequences(self, step: int, which: range) -> tuple[Tensor, Tensor]:
        """Return (inputs, targets) of sequences `which` of `step`, another rank's too; (B, T) int64. Raises alike."""
        if self._whole and which.start == 0:
            return self.first_sequences(step, which.stop)
        self.close()  # the reader is for one thread at a time
        rows = torch.from_numpy(self._reader.read((step - 1) * self._batch + which.start, len(which)).astype(np.int64))
        rows = rows.to(self._device)
        return rows[:, :-1], rows[:, 1:]

    def micro_batches(self, step: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (inputs, targets), each (B, T) int64, of this rank's share of step >= 1, in order.

        Raises BadInput or OSError where the shards prevent it. Steps in order are what the thread expects; another
        step starts it anew.
        """
        ahead = self._begin(step)
        self._next_step = 0
        for number in self._share:
            if not self._held:
                self._held.extend(next(ahead))
            rows = self._held.popleft().to(self._device, non_blocking=True)
            if number == self._share[-1]:
                self._next_step = step + 1
            yield rows[:, :-1], rows[:, 1:]

    def windows(self, step: int, first: int = 0, count: int | None = None) -> np.ndarray:
        """Return the windows (int64) of `count` sequences of `step` from number `first` on, None: of all."""
        return self._order.windows((step - 1) * self._batch + first, self._batch - first if count is None else count)

    def close(self) -> None:
        """End the thread. micro_batches() would start another."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None
        self._held.clear()

    def _begin(self, step: int) -> Prefetch[list[Tensor]]:
        """Return the thread's groups of micro-batches from those of `step` on, less those that are held."""
        if self._ahead is None or self._next_step != step:
            self.close()
            self._ahead, self._next_step = Prefetch(_in_groups(self._from_step(step), self._group), PREFETCHED), step
        return self._ahead

    def _from_step(self, step: int) -> Iterator[Tensor]:
        """Yield the rows (B, T + 1) int64 of all micro-batches from `step` on, in memory that a GPU can fetch."""
        while True:
            first, end = (step - 1) * self._batch, step * self._batch
            for number in self._share:
                sample = first + number * self._micro
                rows = self._reader.read(sample, min(self._micro, end - sample))
                both = torch.from_numpy(rows.astype(np.int64))
                yield both.pin_memory() if self._device.type == "cuda" else both
            step += 1


def _in_groups(items: Iterator[Tensor], size: int) -> Iterator[list[Tensor]]:
    """Yield `items` in lists of `size`; what they raise comes after those before it."""
    group: list[Tensor] = []
    try:
        for item in items:
            group.append(item)
            if len(group) == size:
                yield group
                group = []
    except (Gpt2Error, OSError):
        if group:
            yield group
        raise


class ValidationSet:
    """The first `limit` targets of the validation split in disjoint windows: the same tokens at every evaluation."""

    def __init__(self, tokens: Tokens, *, n_ctx: int, limit: int, token_bytes: np.ndarray) -> None:
        """`token_bytes` is the UTF-8 length of every token id (V,), 0 for end-of-text."""
        self.n_tokens = min(limit, len(tokens) - 1)
        ids = tokens.read(0, self.n_tokens + 1)
        self.sha256 = hashlib.sha256(np.ascontiguousarray(ids, dtype="<u4").tobytes()).hexdigest()
        self.n_bytes = int(token_bytes[ids[1:]].sum())
        self._ids = torch.from_numpy(ids.astype(np.int64))
        self._n_ctx = n_ctx

    def windows(self, micro_batch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (inputs, targets) (B, T); the last window may be shorter and comes alone."""
        T = self._n_ctx
        whole = self.n_tokens // T
        inputs, targets = self._ids[: whole * T].view(whole, T), self._ids[1 : whole * T + 1].view(whole, T)
        for start in range(0, whole, micro_batch):
            yield inputs[start : start + micro_batch], targets[start : start + micro_batch]
        if self.n_tokens % T:
            rest = self._ids[whole * T :]
            yield rest[None, :-1], rest[None, 1:]
