"""Which numbers a narrower type holds: one that is too large for it is refused, not made infinite."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gpt2cli.errors import UsageFault
from gpt2cli.model.device import DTYPES


class OutOfRange(UsageFault):
    """A weight is too large for the type that was asked for."""


def check_range(name: str, tensor: Tensor, dtype: torch.dtype, divisor: float = 1.0, told: str | None = None) -> None:
    """Raise OutOfRange where a value of the tensor `name`, divided by `divisor`, is infinite once rounded to `dtype`.

    told: what the type is called on the command line, None: by its own name there.
    """
    if not tensor.numel():
        return
    largest = torch.linalg.vector_norm(tensor, math.inf, dtype=torch.float32)
    if not bool(torch.isfinite((largest / divisor).to(dtype))):
        named = told or next(word for word, known in DTYPES.items() if known == dtype)
        raise OutOfRange(f"{name} holds {float(largest):.3g}, too large for {named}; choose another --dtype")
