"""A power law through optima: log N_opt = log coefficient + exponent log C, by least squares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class PowerLine:
    """N_opt = exp(log_coefficient) C^exponent, C in FLOP. `worst` is the largest |log residual| of its points."""

    log_coefficient: float
    exponent: float
    worst: float

    def at(self, flops: Any) -> Any:
        """Return N_opt at a budget (number or array) in FLOP."""
        return np.exp(self.log_coefficient + self.exponent * np.log(np.asarray(flops, dtype=float)))


def line_through(flops: np.ndarray, n_opt: np.ndarray) -> PowerLine:
    """Return the line through K >= 2 optima at distinct budgets, both (K,)."""
    x, y = np.log(flops), np.log(n_opt)
    intercept, slope = (float(value[0]) for value in weighted_lines(x, y[None, :], np.ones((1, x.size))))
    return PowerLine(intercept, slope, float(np.abs(y - intercept - slope * x).max()))


def weighted_lines(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return intercepts and slopes, (R,), of weighted least-squares lines: `x` (K,), `y` and `weights` (R, K).

    A row with fewer than two weighted points gives nan.
    """
    total = weights.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        x_mean = (weights @ x) / total
        y_mean = np.where(weights > 0, weights * y, 0.0).sum(axis=1) / total
        offset = x[None, :] - x_mean[:, None]
        spread = (weights * offset * offset).sum(axis=1)
        rise = np.where(weights > 0, weights * offset * (y - y_mean[:, None]), 0.0).sum(axis=1)
        slope = np.where((weights > 0).sum(axis=1) >= 2, rise / spread, np.nan)
    return y_mean - slope * x_mean, slope
