"""Attention within documents: which positions of a window may look at which, where several documents lie in it."""

from __future__ import annotations

import torch
from torch import Tensor


def document_mask(ids_BT: Tensor, separator: int) -> Tensor:
    """Return (B, 1, T, T) bool: whether a position (third) may attend to another (fourth), at or before it.

    A separator, the end-of-text id, begins the document after it: what it predicts is that document's first token,
    from itself alone, as it must where a sample begins with it.
    """
    T = ids_BT.shape[1]
    document_BT = (ids_BT == separator).cumsum(1)
    same_BTT = document_BT[:, :, None] == document_BT[:, None, :]
    causal_TT = torch.ones(T, T, dtype=torch.bool, device=ids_BT.device).tril()
    return (same_BTT & causal_TT)[:, None]
