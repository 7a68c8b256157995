"""From shards to tensors: the windows of a step, and the fixed validation set."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from gpt2cli.tokens.order import count_windows, window_indices


class Tokens(Protocol):
    """A stream of token ids that can be read anywhere: records.shard_set.TokenStream, or anything alike."""

    def __len__(self) -> int: ...

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return tokens start to stop."""


class TrainingBatches:
    """The micro-batches of any step, by number."""

    def __init__(
        self, tokens: Tokens, *, n_ctx: int, batch: int, micro_batch: int, seed: int, device: torch.device
    ) -> None:
        self._tokens, self._n_ctx, self._batch, self._micro = tokens, n_ctx, batch, micro_batch
        self._seed, self._device = seed, device
        self._n_windows = count_windows(len(tokens), n_ctx)

    def micro_batches(self, step: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (inputs, targets), each (B, T) int64, of step >= 1; all B together make up the batch."""
        windows = window_indices(self._seed, self._n_windows, (step - 1) * self._batch, self._batch)
        for start in range(0, self._batch, self._micro):
            yield self._gather(windows[start : start + self._micro])

    def _gather(self, windows: np.ndarray) -> tuple[Tensor, Tensor]:
        T = self._n_ctx
        rows = np.stack([self._tokens.read(int(i) * T, int(i) * T + T + 1) for i in windows]).astype(np.int64)
        both = torch.from_numpy(rows)
        if self._device.type == "cuda":
            both = both.pin_memory()
        both = both.to(self._device, non_blocking=True)
        return both[:, :-1], both[:, 1:]


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
