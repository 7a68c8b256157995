"""The learning rate of a step, and the name of the phase it is in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

ScheduleName = Literal["cosine", "linear", "wsd"]
WSD_DECAY_SHARE = 0.2
"""The last fifth of a WSD run decays unless told otherwise (Hu et al. 2024, 2404.06395: at least 10 %)."""


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up to `peak`, then cosine or linear decay to `floor`, or WSD: stable, then a linear decay.

    decay_steps: how long WSD decays at its end (0: never); the others decay from the warm-up on.
    """

    name: ScheduleName
    peak: float
    floor: float
    warmup_steps: int
    steps: int
    decay_steps: int = 0

    def at(self, step: int) -> tuple[float, str]:
        """Return (learning rate, phase) of step 1 <= `step` <= steps; phase is warmup, stable or decay."""
        if step <= self.warmup_steps:
            return self.peak * step / self.warmup_steps, "warmup"
        start = self.warmup_steps
        if self.name == "wsd":
            start = max(start, self.steps - self.decay_steps)
            if step <= start:
                return self.peak, "stable"
        progress = (step - start) / max(1, self.steps - start)
        share = 0.5 * (1 + math.cos(math.pi * progress)) if self.name == "cosine" else 1 - progress
        return self.floor + (self.peak - self.floor) * share, "decay"
