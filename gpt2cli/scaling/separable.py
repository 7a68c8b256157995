"""Least squares of y = floor + amplitude * g(x; theta) with one or two non-linear values theta: variable projection.

For each theta floor and amplitude are a linear problem in closed form, so a grid over theta, refined around its best
cell, finds the one answer without a start. Where floor and amplitude are fixed the same search fits theta alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Shape = Callable[[np.ndarray], np.ndarray]
"""g at K values of theta (K, Q) for the M observations: (K, M)."""
_COARSE = {1: 400, 2: 60}
_FINE = 9
_ROUNDS, _NEAR_ROUNDS = 40, 20
_SHRINK = 0.5


LEVEL = 0.95
"""Nominal share of percentile intervals."""


@dataclass(frozen=True)
class Answer:
    """The fitted value at `x`, with its interval (None: no resamples)."""

    x: float
    value: float
    interval: tuple[float, float] | None


def interval_of(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the percentile interval of one value per resample; None of none."""
    if not values:
        return None
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(values, [tail, 100 - tail], method="inverted_cdf")
    return float(low), float(high)


@dataclass(frozen=True)
class Separable:
    """A fit: floor, amplitude, theta (Q,), weighted sum of squares, and whether theta met an end of its range."""

    floor: float
    amplitude: float
    theta: tuple[float, ...]
    squares: float
    at_bound: bool


@dataclass(frozen=True)
class Problem:
    """What is fitted: y and weights (M,), the shape g, bounds of theta, and what is not free (None: it is).

    `least_floor` bounds a free floor from below (None: no bound).
    """

    y: np.ndarray
    weights: np.ndarray
    shape: Shape
    low: tuple[float, ...]
    high: tuple[float, ...]
    floor: float | None = None
    amplitude: float | None = None
    least_floor: float | None = None

    def fit(self, start: tuple[float, ...] | None = None) -> Separable:
        """Return the best fit; `start`: search around this theta only, as for resamples of one problem."""
        low, high = np.array(self.low), np.array(self.high)
        width = high - low
        if start is None:
            axes = [np.linspace(a, b, _COARSE[len(self.low)]) for a, b in zip(low, high, strict=True)]
            cells = np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=-1)
            centre = cells[int(np.argmin(self._solve(cells)[2]))]
            width = width / _COARSE[len(self.low)]
        else:
            centre, width = np.array(start), width / 8
        offsets = np.stack(
            [axis.ravel() for axis in np.meshgrid(*[np.linspace(-2, 2, _FINE)] * len(low), indexing="ij")], axis=-1
        )
        for _ in range(_ROUNDS if start is None else _NEAR_ROUNDS):
            cells = np.clip(centre + offsets * width, low, high)
            best = int(np.argmin(self._solve(cells)[2]))
            inner = np.all(np.abs(offsets[best]) <= 1)
            centre = cells[best]
            width = width * (_SHRINK if inner else 1.0)
        floor, amplitude, squares = (values[0] for values in self._solve(centre[None, :]))
        met = bool(np.any((centre - low < 1e-6 * (high - low)) | (high - centre < 1e-6 * (high - low))))
        return Separable(float(floor), float(amplitude), tuple(float(value) for value in centre), float(squares), met)

    def predict(self, fit: Separable, shape: Shape) -> np.ndarray:
        """Return the fitted values (M',) where `shape` gives g there."""
        return np.asarray(fit.floor + fit.amplitude * shape(np.array([fit.theta]))[0])

    def _solve(self, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return floor, amplitude and weighted squares, each (K,), of the linear problems at `cells` (K, Q)."""
        g, w = self.shape(cells), self.weights
        if self.floor is not None:
            floor = np.full(len(g), self.floor)
            amplitude = self._slope(g, floor)
        else:
            total = w.sum()
            mean_g, mean_y = g @ w / total, float(self.y @ w) / total
            spread = ((g - mean_g[:, None]) ** 2) @ w
            with np.errstate(divide="ignore", invalid="ignore"):
                amplitude = np.where(
                    spread > 0, ((g - mean_g[:, None]) * (self.y - mean_y)) @ w / np.maximum(spread, 1e-300), 0.0
                )
            floor = mean_y - amplitude * mean_g
            if self.least_floor is not None:
                under = floor < self.least_floor
                floor = np.where(under, self.least_floor, floor)
                amplitude = np.where(under, self._slope(g, floor), amplitude)
        residuals = floor[:, None] + amplitude[:, None] * g - self.y
        squares = (residuals**2) @ w
        return floor, amplitude, np.where(np.isfinite(squares), squares, np.inf)

    def _slope(self, g: np.ndarray, floor: np.ndarray) -> np.ndarray:
        if self.amplitude is not None:
            return np.full(len(g), self.amplitude)
        return ((g * (self.y - floor[:, None])) @ self.weights) / np.maximum((g * g) @ self.weights, 1e-300)
