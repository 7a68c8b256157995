"""Keys and values of the positions already seen, preallocated once for a whole generation."""

from __future__ import annotations

import torch
from torch import Tensor

from gpt2cli.sizes import ModelShape


class KVCache:
    """Holds k and v as (L, B, H, capacity, D). Shapes: see gpt2.py."""

    def __init__(
        self, shape: ModelShape, batch: int, capacity: int, *, device: torch.device, dtype: torch.dtype
    ) -> None:
        size = (shape.n_layer, batch, shape.n_head, capacity, shape.n_embd // shape.n_head)
        self.k_LBHSD = torch.zeros(size, device=device, dtype=dtype)
        self.v_LBHSD = torch.zeros(size, device=device, dtype=dtype)
        self.length = 0

    def append(self, layer: int, k_BHTD: Tensor, v_BHTD: Tensor) -> tuple[Tensor, Tensor]:
        """Store T new positions of one layer; return views (B, H, length + T, D) of all its keys and values."""
        end = self.length + k_BHTD.shape[2]
        self.k_LBHSD[layer, :, :, self.length : end] = k_BHTD
        self.v_LBHSD[layer, :, :, self.length : end] = v_BHTD
        return self.k_LBHSD[layer, :, :, :end], self.v_LBHSD[layer, :, :, :end]

    def mask(self, new: int) -> Tensor | None:
        """Return the (T, S) mask for `new` positions after the stored ones; None when plain causal or none will do."""
        if new == 1 or self.length == 0:
            return None
        rows = torch.arange(self.length, self.length + new, device=self.k_LBHSD.device)
        return torch.arange(self.length + new, device=self.k_LBHSD.device)[None, :] <= rows[:, None]

    def advance(self, new: int) -> None:
        """Count `new` positions as stored, after every layer has appended them."""
        self.length += new

    def keep(self, length: int) -> None:
        """Forget all positions from `length` on."""
        self.length = min(self.length, length)

    def reorder(self, rows_B: Tensor) -> None:
        """Let row i of the batch go on from what was row rows_B[i]."""
        self.k_LBHSD = self.k_LBHSD[:, rows_B]
        self.v_LBHSD = self.v_LBHSD[:, rows_B]
