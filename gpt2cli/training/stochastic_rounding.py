"""fp32 to bf16 by chance: up or down, so that the mean is the number (Gupta et al. 2015, 1502.02551).

bf16 has 8 bits, and a moment that moves by less than one 256th of itself would stay where it is for good: Adam's second
one at beta 0.999 would never fall. Rounded by chance it moves as often as it has to.

The chance is a function of seed, step, name and place: 32 random bits of the place, times an odd number and plus
another of the rest, of which the upper half is taken (Dietzfelbinger et al. 1997). A run that goes on draws the same.
"""

from __future__ import annotations

from hashlib import blake2b

import torch
from torch import Tensor


class RoundingNoise:
    """Uniform 16-bit numbers for pieces of at most `size` elements."""

    def __init__(self, seed: int, size: int) -> None:
        self._seed = seed
        generator = torch.Generator().manual_seed(seed)
        self.places = torch.empty(size, dtype=torch.int32).random_(-(2**31), 2**31, generator=generator)
        """32 random bits of every place in a piece."""

    def draw(self, key: str, like: Tensor) -> Tensor:
        """Return int32 numbers from 0 to 65,535 in the number (one dimension) and on the device of `like`."""
        factor, summand = self.of_key(key)
        if self.places.device != like.device:
            self.places = self.places.to(like.device)
        return (self.places[: len(like)] * factor).add_(summand).bitwise_right_shift_(16).bitwise_and_(0xFFFF)

    def of_key(self, key: str) -> tuple[int, int]:
        """Return the odd factor and the summand of a key, as int32: of what they make of `places` draw() takes half."""
        drawn = blake2b(f"{self._seed}/{key}".encode(), digest_size=8).digest()
        factor, summand = (int.from_bytes(half, "little", signed=True) for half in (drawn[:4], drawn[4:]))
        return factor | 1, summand


def round_into(narrow: Tensor, wide: Tensor, noise: Tensor) -> None:
    """Fill bf16 `narrow` with fp32 `wide`, each rounded away from zero with the chance that its place between has."""
    narrow.view(torch.int16).copy_(noise.add_(wide.view(torch.int32)).bitwise_right_shift_(16))
