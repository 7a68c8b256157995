"""The factor that keeps fp16 gradients from vanishing, found as training goes (Micikevicius et al. 2018, 1710.03740).

Gradients are computed times the factor and divided by it again. Where they overflow, the same batch is computed once
more under half the factor, so no batch is lost; after 2,000 steps without overflow the factor doubles.
"""

from __future__ import annotations

from typing import Any

FIRST = 2.0**16
LARGEST = 2.0**24
STEPS_TO_DOUBLE = 2000


class LossScale:
    """The factor, a power of two so that dividing by it is exact; 1 for good unless `dynamic`."""

    def __init__(self, dynamic: bool) -> None:
        self._dynamic = dynamic
        self.value, self._steps = FIRST if dynamic else 1.0, 0

    def lower(self) -> bool:
        """Halve the factor after an overflow; False when it cannot be lowered."""
        if not self._dynamic or self.value <= 1.0:
            return False
        self.value, self._steps = self.value / 2, 0
        return True

    def accept(self) -> None:
        """Count a step that did not overflow."""
        if not self._dynamic:
            return
        self._steps += 1
        if self._steps >= STEPS_TO_DOUBLE:
            self.value, self._steps = min(self.value * 2, LARGEST), 0

    def state(self) -> dict[str, Any] | None:
        """Return what restore() puts back; None where the factor is 1 for good."""
        return {"value": self.value, "steps": self._steps} if self._dynamic else None

    def restore(self, state: dict[str, Any] | None) -> None:
        """Put back what state() returned; None: as at a run's start."""
        self.value = float((state or {}).get("value", FIRST if self._dynamic else 1.0))
        self._steps = int((state or {}).get("steps", 0))
