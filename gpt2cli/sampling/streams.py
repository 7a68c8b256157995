"""Random numbers that belong to a sample, not to a batch: sample i of prompt j has its own counter-based stream.

The stream is Philox-4x64 with the seed as its key and (j, i) in the upper words of its counter (Salmon et al. 2011),
so what a sample draws depends on seed, prompt number and sample number alone.
"""

from __future__ import annotations

import numpy as np

_SCALE = 2.0**-53


class SampleStream:
    """The uniform numbers of one sample."""

    def __init__(self, seed: int, prompt: int, sample: int) -> None:
        counter = np.array([0, 0, sample, prompt], dtype=np.uint64)
        self._bits = np.random.Philox(key=np.array([seed, 0], dtype=np.uint64), counter=counter)

    def uniform(self) -> float:
        """Return the next number in [0, 1), a multiple of 2^-53."""
        return (int(self._bits.random_raw()) >> 11) * _SCALE
