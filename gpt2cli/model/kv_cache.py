"""Keys and values of the positions already seen, preallocated once for a whole generation; rows may differ in length.

Every row begins at position 0 and goes on at its own length, so nothing is padded on the left and going back is
forgetting: what lies beyond a row's length is masked until it is overwritten. Rows of one length need no mask.

Shapes: L layers, B rows, H heads, S positions, D head size, T new positions of every row.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gpt2cli.sizes import ModelShape


class KVCache:
    """Keys and values of `batch` rows, up to `capacity` positions each. `lengths`: the positions each row holds."""

    def __init__(
        self, shape: ModelShape, batch: int, capacity: int, *, device: torch.device, dtype: torch.dtype
    ) -> None:
        size = (shape.n_layer, batch, shape.n_head, capacity, shape.n_embd // shape.n_head)
        self.k_LBHSD = torch.zeros(size, device=device, dtype=dtype)
        self.v_LBHSD = torch.zeros(size, device=device, dtype=dtype)
        self.capacity = capacity
        self.lengths = [0] * batch

    @property
    def even(self) -> bool:
        """Whether all rows hold equally many positions."""
        return len(set(self.lengths)) < 2

    def window(self, new: int) -> CacheWindow:
        """Return where the next `new` positions of every row go. Raises ValueError when they don't fit."""
        if max(self.lengths) + new > self.capacity:
            raise ValueError(f"{max(self.lengths) + new} positions do not fit a cache of {self.capacity}")
        return CacheWindow(self, new)

    def fill(self, layer: int, row: int, k_THD: Tensor, v_THD: Tensor) -> None:
        """Store the first positions of one row and layer; `set_lengths` counts them when all layers have theirs."""
        self.k_LBHSD[layer, row, :, : len(k_THD)] = k_THD.transpose(0, 1)
        self.v_LBHSD[layer, row, :, : len(v_THD)] = v_THD.transpose(0, 1)

    def set_lengths(self, lengths: Sequence[int]) -> None:
        """Say how many positions each row holds: fewer than before forgets the rest."""
        self.lengths = list(lengths)

    def reorder(self, rows: Sequence[int]) -> None:
        """Let row i go on from what was row rows[i]: rows may be left out, moved and repeated. Copies what moves."""
        held = max((self.lengths[row] for row in rows), default=0)
        moved = [(to, row) for to, row in enumerate(rows) if to != row]
        if len(rows) > self.k_LBHSD.shape[1]:
            size = list(self.k_LBHSD.shape)
            size[1] = len(rows)
            for name in ("k_LBHSD", "v_LBHSD"):
                old, new = getattr(self, name), self.k_LBHSD.new_zeros(size)
                new[:, :, :, :held] = old[:, list(rows), :, :held]
                setattr(self, name, new)
        elif moved:
            to, source = (list(column) for column in zip(*moved, strict=True))
            for all_rows in (self.k_LBHSD, self.v_LBHSD):
                all_rows[:, to, :, :held] = all_rows[:, source, :, :held]
        self.lengths = [self.lengths[row] for row in rows]


class CacheWindow:
    """The place of T new positions of every row: their numbers, what they may see, where they are stored."""

    def __init__(self, cache: KVCache, new: int) -> None:
        self._cache = cache
        self._batch, self._new = len(cache.lengths), new
        device = cache.k_LBHSD.device
        self._start = cache.lengths[0] if cache.even else None
        self.end = max(cache.lengths) + new
        self.places_BT: Tensor | None = None
        self._rows_B1: Tensor | None = None
        if self._start is None:
            starts_B1 = torch.tensor(cache.lengths, device=device)[:, None]
            self.places_BT = starts_B1 + torch.arange(new, device=device)
            self._rows_B1 = torch.arange(self._batch, device=device)[:, None]
        self.mask = self._mask(cache.k_LBHSD.dtype)
        self.causal = new > 1 and self.mask is None

    def positions(self, wpe: Tensor) -> Tensor:
        """Return the position embeddings of the new positions, (T, C) or (B, T, C)."""
        if self._start is not None:
            return wpe[self._start : self.end]
        return wpe[self.places_BT]

    def append(self, layer: int, k_BTHD: Tensor, v_BTHD: Tensor) -> tuple[Tensor, Tensor]:
        """Store one layer's keys and values; return views (B, H, S, D) of all that the layer holds."""
        k_BHSD = self._cache.k_LBHSD[layer, : self._batch, :, : self.end]
        v_BHSD = self._cache.v_LBHSD[layer, : self._batch, :, : self.end]
        if self._start is not None:
            k_BHSD[:, :, self._start :] = k_BTHD.transpose(1, 2)
            v_BHSD[:, :, self._start :] = v_BTHD.transpose(1, 2)
        else:
            k_BHSD[self._rows_B1, :, self.places_BT] = k_BTHD
            v_BHSD[self._rows_B1, :, self.places_BT] = v_BTHD
        return k_BHSD, v_BHSD

    def advance(self) -> None:
        """Count the new positions as held, after every layer has appended them."""
        self._cache.lengths = [length + self._new for length in self._cache.lengths]

    def _mask(self, dtype: torch.dtype) -> Tensor | None:
        """Return 0 where a new position may look and -inf elsewhere; None where plain causal or no mask will do."""
        if self._start is not None and (self._new == 1 or self._start == 0):
            return None
        device = self._cache.k_LBHSD.device
        places = self.places_BT if self.places_BT is not None else torch.arange(
            self._start or 0, self.end, device=device)[None, :]
        seen = torch.arange(self.end, device=device) <= places[:, None, :, None]
        return torch.zeros(seen.shape, device=device, dtype=dtype).masked_fill_(~seen, -torch.inf)
