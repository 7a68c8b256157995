"""fp32 weights in two halves: the bf16 number that the network computes with, and the 16 bits that it lacks.

A master of its own beside bf16 weights would make 6 bytes a parameter; so it is 4, and not a bit is missing. The high
half is the nearest bf16 (a half goes away from zero), the low half the signed distance in units of fp32's last place.
"""

from __future__ import annotations

import torch
from torch import Tensor

_HALF = 0x8000


def join(high: Tensor, low: Tensor) -> Tensor:
    """Return the fp32 weights of bf16 `high` and int16 `low`, of one shape."""
    bits = high.view(torch.int16).to(torch.int32).bitwise_left_shift_(16)
    return bits.add_(low).view(torch.float32)


def divide(weights: Tensor, high: Tensor, low: Tensor) -> None:
    """Put fp32 `weights` into bf16 `high` and int16 `low`, of one shape. Finite numbers below bf16's largest."""
    bits = weights.view(torch.int32)
    upper = (bits + _HALF).bitwise_right_shift_(16)
    high.view(torch.int16).copy_(upper)
    low.copy_(bits - upper.bitwise_left_shift_(16))
