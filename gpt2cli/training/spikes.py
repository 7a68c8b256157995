"""Loss spikes and numbers that are not finite, seen before the optimizer moves a weight by them.

A loss or gradient norm is a spike when it is more than `sigmas` standard deviations above the mean of the last 128
steps that were taken (the rule of OLMo-core's SkipStepOptimizer, whose factor is 6). Batches that were left out are no
part of that window, so that one spike does not hide the next.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Any, Literal

Policy = Literal["stop", "skip", "rollback"]
POLICIES: tuple[Policy, ...] = ("stop", "skip", "rollback")
WINDOW = 128
LEAST = 32
"""Steps that must have been taken before a finite value can be a spike."""
MOST_SKIPPED = 10
"""Batches in a row that are left out before a run is given up: that many are no spike."""
MOST_ROLLBACKS = 5
"""Times that a run goes back to one checkpoint."""


@dataclass(frozen=True)
class Spike:
    """What is wrong with a step: `what` is a clause for a person; limit: what it passed, None if it is not finite."""

    what: str
    limit: float | None


class SpikeDetector:
    """Judges steps by those before; its state is a JSON object, so that a resumed run judges alike.

    sigmas None: only what is not finite is a spike.
    """

    def __init__(self, sigmas: float | None) -> None:
        self._sigmas = sigmas
        self._losses: deque[float] = deque(maxlen=WINDOW)
        self._norms: deque[float] = deque(maxlen=WINDOW)
        self.skipped = 0
        """Batches left out since the last step that was taken."""

    def judge(self, loss: float, grad_norm: float) -> Spike | None:
        """Return what is wrong with a step's loss (nats) and gradient norm before clipping, None if nothing is."""
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            return Spike(f"the loss is {loss} and the gradient norm {grad_norm}", None)
        for name, value, before in (("loss", loss, self._losses), ("gradient norm", grad_norm, self._norms)):
            limit = self._limit(before)
            if value > limit:
                return Spike(f"the {name} is {value:.4g}, more than {limit:.4g}, which is {self._sigmas:g} standard "
                             f"deviations above the mean of the {len(before)} steps before", limit)
        return None

    def accept(self, loss: float, grad_norm: float) -> None:
        """Count a step that is taken."""
        self.skipped = 0
        if self._sigmas is not None:
            self._losses.append(loss)
            self._norms.append(grad_norm)

    def state(self) -> dict[str, Any]:
        """Return everything that judge() depends on, for restore()."""
        return {"skipped": self.skipped, "losses": list(self._losses), "grad_norms": list(self._norms)}

    def restore(self, state: dict[str, Any] | None) -> None:
        """Put back what state() returned; None: as at a run's start."""
        state = state or {}
        self.skipped = int(state.get("skipped", 0))
        self._losses = deque(map(float, state.get("losses", ())), WINDOW)
        self._norms = deque(map(float, state.get("grad_norms", ())), WINDOW)

    def _limit(self, before: deque[float]) -> float:
        if self._sigmas is None or len(before) < LEAST:
            return math.inf
        mean = math.fsum(before) / len(before)
        variance = math.fsum((value - mean) ** 2 for value in before) / len(before)
        return mean + self._sigmas * math.sqrt(variance)
