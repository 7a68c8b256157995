"""Random numbers that belong to a sample, not to a batch: sample i of prompt j has its own counter-based stream.

The stream is Philox-4x64 with the seed as its key and (j, i) in the upper words of its counter (Salmon et al. 2011),
so what a sample draws depends on seed, prompt number and sample number alone. One token takes one uniform number.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_SCALE = 2.0**-53


class SampleStream:
    """The uniform numbers of one sample."""

    def __init__(self, seed: int, prompt: int, sample: int) -> None:
        counter = np.array([0, 0, sample, prompt], dtype=np.uint64)
        self._bits = np.random.Philox(key=np.array([seed, 0], dtype=np.uint64), counter=counter)

    def uniform(self) -> float:
        """Return the next number in [0, 1), a multiple of 2^-53."""
        return (int(self._bits.random_raw()) >> 11) * _SCALE


def draw(logits_BV: Tensor, uniforms: list[float]) -> Tensor:
    """Return ids (B,) drawn by inverse CDF: row b's token is the first whose cumulated probability passes uniforms[b].

    A token at -inf is never drawn. The cumulated sums are fp64, so that 50,257 roundings do not add up (fp32 where
    the device has no fp64).
    """
    exact = torch.float32 if logits_BV.device.type == "mps" else torch.float64
    cdf_BV = logits_BV.softmax(dim=1).to(exact).cumsum(dim=1)
    total_B1 = cdf_BV[:, -1:]
    aim_B1 = total_B1 * torch.tensor(uniforms, dtype=exact, device=cdf_BV.device)[:, None]
    below_total = torch.nextafter(total_B1, torch.zeros_like(total_B1))
    return torch.searchsorted(cdf_BV, torch.minimum(aim_B1, below_total), right=True)[:, 0]
