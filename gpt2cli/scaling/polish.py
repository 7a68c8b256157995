"""The polish of a fit: a batch of damped Newton/IRLS descents on the summed Huber loss of log residuals.

Near the solution the true Hessian gives fast convergence; far from it, or where too few points lie in the quadratic
zone, the Hessian of iteratively reweighted least squares (a majorant) gives steady descent. The mix is adaptive.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

EXPONENT_BOUNDS = (0.005, 4.0)
"""alpha and beta stay inside; a fit that ends there is reported as at a bound."""
AMPLITUDE_FLOOR = 1e-6
"""An amplitude below this share of the typical loss counts as zero."""
_LOW = np.array([0.0, 0.0, 0.0, EXPONENT_BOUNDS[0], EXPONENT_BOUNDS[0]])
_HIGH = np.array([np.inf, np.inf, np.inf, EXPONENT_BOUNDS[1], EXPONENT_BOUNDS[1]])
_ITERATIONS = 200


class Problem(Protocol):
    """What is descended on: log residuals of M observations as functions of P parameters inside `low` and `high`."""

    @property
    def size(self) -> int:
        """M."""

    @property
    def low(self) -> np.ndarray:
        """Lower bounds, (P,)."""

    @property
    def high(self) -> np.ndarray:
        """Upper bounds, (P,)."""

    def residuals(self, parameters: np.ndarray) -> np.ndarray:
        """Return log(predicted) - log(observed), (R, M), for parameters (R, P)."""

    def linearise(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the residuals (R, M) and their derivatives (R, P, M)."""

    def add_second_derivatives(
        self, hessian: np.ndarray, parameters: np.ndarray, jacobian: np.ndarray, slope: np.ndarray, share: np.ndarray
    ) -> None:
        """Add share (R,) * sum(slope (R, M) * second derivatives of prediction / prediction) to `hessian` (R, P, P)."""


@dataclass(frozen=True)
class Surface:
    """Observations in natural units: logs of N, D and L relative to their geometric means, each of shape (M,)."""

    x: np.ndarray
    y: np.ndarray
    log_level: np.ndarray
    level: np.ndarray
    centre: tuple[float, float, float]
    low = _LOW
    high = _HIGH

    @property
    def size(self) -> int:
        """Number of observations, M."""
        return self.x.size

    @classmethod
    def of(cls, n: np.ndarray, d: np.ndarray, loss: np.ndarray) -> Surface:
        """Centre positive arrays `n`, `d`, `loss` of shape (M,)."""
        logs = [np.log(np.asarray(values, dtype=float)) for values in (n, d, loss)]
        means = [float(values.mean()) for values in logs]
        x, y, log_level = (values - mean for values, mean in zip(logs, means, strict=True))
        return cls(x, y, log_level, np.exp(log_level), (means[0], means[1], means[2]))

    def to_units(self, parameters: np.ndarray) -> np.ndarray:
        """Turn centred parameters (..., 5) into (E, A, B, alpha, beta) for N, D and L as given."""
        out = np.array(parameters, dtype=float)
        out[..., :3] *= np.exp(self.centre[2])
        out[..., 1] *= np.exp(out[..., 3] * self.centre[0])
        out[..., 2] *= np.exp(out[..., 4] * self.centre[1])
        return out

    def from_units(self, parameters: np.ndarray) -> np.ndarray:
        """Undo to_units."""
        out = np.array(parameters, dtype=float)
        out[..., 1] *= np.exp(-out[..., 3] * self.centre[0])
        out[..., 2] *= np.exp(-out[..., 4] * self.centre[1])
        out[..., :3] *= np.exp(-self.centre[2])
        return out

    def terms(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return N^-alpha, D^-beta and the predicted loss for centred parameters (R, 5), each (R, M)."""
        power_x = np.exp(-parameters[:, 3:4] * self.x)
        power_y = np.exp(-parameters[:, 4:5] * self.y)
        return power_x, power_y, parameters[:, :1] + parameters[:, 1:2] * power_x + parameters[:, 2:3] * power_y

    def residuals(self, parameters: np.ndarray) -> np.ndarray:
        """Return log(predicted) - log(observed), (R, M)."""
        return np.log(np.maximum(self.terms(parameters)[2], 1e-300)) - self.log_level

    def linearise(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the residuals (R, M) and their derivatives by the five centred parameters, (R, 5, M)."""
        power_x, power_y, predicted = self.terms(parameters)
        jacobian = np.empty((len(parameters), 5, self.x.size))
        np.divide(1.0, predicted, out=jacobian[:, 0])
        np.multiply(power_x, jacobian[:, 0], out=jacobian[:, 1])
        np.multiply(power_y, jacobian[:, 0], out=jacobian[:, 2])
        np.multiply(jacobian[:, 1], -parameters[:, 1:2] * self.x, out=jacobian[:, 3])
        np.multiply(jacobian[:, 2], -parameters[:, 2:3] * self.y, out=jacobian[:, 4])
        return np.log(np.maximum(predicted, 1e-300)) - self.log_level, jacobian

    def add_second_derivatives(
        self, hessian: np.ndarray, parameters: np.ndarray, jacobian: np.ndarray, slope: np.ndarray, share: np.ndarray
    ) -> None:
        """See Problem; only A-alpha and B-beta have any."""
        for amplitude, exponent, logs in ((1, 3, self.x), (2, 4, self.y)):
            weighted = jacobian[:, amplitude] * slope
            once = -share * (weighted @ logs)
            hessian[:, amplitude, exponent] += once
            hessian[:, exponent, amplitude] += once
            hessian[:, exponent, exponent] += share * parameters[:, amplitude] * (weighted @ (logs * logs))


def huber(residuals: np.ndarray, delta: float) -> np.ndarray:
    """Return Huber's loss of each residual: r^2/2 within `delta`, delta (|r| - delta/2) beyond."""
    size = np.abs(residuals)
    return np.where(size <= delta, 0.5 * size * size, delta * (size - 0.5 * delta))


def objective(problem: Problem, parameters: np.ndarray, weights: np.ndarray, delta: float) -> np.ndarray:
    """Return the weighted SUM of Huber losses, (R,), for centred parameters (R, P) and weights (R or 1, M)."""
    return (weights * huber(problem.residuals(parameters), delta)).sum(axis=1)


def polish(
    problem: Problem, starts: np.ndarray, weights: np.ndarray, delta: float, iterations: int = _ITERATIONS
) -> tuple[np.ndarray, np.ndarray]:
    """Descend from each start (R, P) under its weights (R, M). Returns solutions (R, P) and converged (R,).

    No start ends worse than it began. Parameters stay within the problem's bounds.
    """
    solutions = np.clip(starts, problem.low, problem.high)
    finished = np.zeros(len(starts), dtype=bool)
    rows = np.arange(len(starts))
    point, weight = solutions.copy(), weights
    value = objective(problem, point, weight, delta)
    mix, damping = np.ones(len(rows)), np.full(len(rows), 1e-3)
    small = np.zeros(len(rows), dtype=int)
    for _ in range(iterations):
        trial = point + _step(problem, point, weight, delta, mix, damping)
        trial = np.clip(trial, problem.low, problem.high)
        trial_value = objective(problem, trial, weight, delta)
        accepted = trial_value < value
        gain = np.where(accepted, value - trial_value, 0.0)
        moved = np.abs(trial - point).max(axis=1)
        tiny = np.where(accepted, gain <= 1e-13 * value, damping > 1e6) | (moved < 1e-14)
        small = np.where(tiny, small + 1, 0)
        point = np.where(accepted[:, None], trial, point)
        value = np.where(accepted, trial_value, value)
        mix = np.where(accepted, np.where(mix < 1e-3, 0.0, 0.2 * mix), np.minimum(1.0, np.maximum(8 * mix, 0.05)))
        damping = np.clip(np.where(accepted, 0.2 * damping, 5.0 * damping), 1e-12, 1e12)
        done = (small >= 2) | (value <= 1e-29 * problem.size) | (damping > 1e8)
        if done.any():
            solutions[rows[done]] = point[done]
            finished[rows[done]] = True
            keep = ~done
            rows, point, weight, value = rows[keep], point[keep], weight[keep], value[keep]
            mix, damping, small = mix[keep], damping[keep], small[keep]
            if not rows.size:
                break
    solutions[rows] = point
    return solutions, finished


def _step(
    problem: Problem, parameters: np.ndarray, weights: np.ndarray, delta: float, mix: np.ndarray, damping: np.ndarray
) -> np.ndarray:
    """Return one damped step per row, (R, P), with parameters held that press against a bound."""
    residuals, jacobian = problem.linearise(parameters)
    size = np.abs(residuals)
    inside = size <= delta
    slope = weights * np.clip(residuals, -delta, delta)
    gradient = np.einsum("rim,rm->ri", jacobian, slope)
    majorant = weights * np.where(inside, 1.0, delta / np.maximum(size, 1e-300))
    exact = np.where(inside, weights, 0.0) - slope
    curvature = (1 - mix[:, None]) * exact + mix[:, None] * majorant
    hessian = (jacobian * curvature[:, None, :]) @ jacobian.transpose(0, 2, 1)
    problem.add_second_derivatives(hessian, parameters, jacobian, slope, 1 - mix)
    scale = np.einsum("rim,rim,rm->ri", jacobian, jacobian, majorant)
    diagonal = np.arange(parameters.shape[1])
    hessian[:, diagonal, diagonal] += damping[:, None] * scale + 1e-14 * scale.max(axis=1, keepdims=True) + 1e-300
    held = ((parameters <= problem.low) & (gradient > 0)) | ((parameters >= problem.high) & (gradient < 0))
    gradient = np.where(held, 0.0, gradient)
    hessian = np.where(held[:, :, None] | held[:, None, :], 0.0, hessian)
    hessian[:, diagonal, diagonal] = np.where(held, 1.0, hessian[:, diagonal, diagonal])
    return -_solve(hessian, gradient)


def _solve(hessian: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Solve the batch after scaling each matrix to a unit diagonal; an unsolvable row gets a zero step."""
    diagonal = np.sqrt(np.abs(np.einsum("rii->ri", hessian)))
    diagonal = np.where(diagonal > 0, diagonal, 1.0)
    scaled = hessian / (diagonal[:, :, None] * diagonal[:, None, :])
    each = np.arange(gradient.shape[1])
    scaled[:, each, each] += 1e-15
    right = (gradient / diagonal)[:, :, None]
    try:
        solved = np.linalg.solve(scaled, right)[:, :, 0] / diagonal
    except np.linalg.LinAlgError:
        solved = (np.linalg.pinv(scaled) @ right)[:, :, 0] / diagonal
    return np.where(np.isfinite(solved).all(axis=1, keepdims=True), solved, 0.0)
