"""The polish of a fit: a batch of damped Newton/IRLS descents on the summed Huber loss of log residuals.

Near the solution the true Hessian gives fast convergence; far from it, or where too few points lie in the quadratic
zone, the Hessian of iteratively reweighted least squares (a majorant) gives steady descent. The mix is adaptive.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

EXPONENT_BOUNDS = (0.005, 4.0)
"""alpha and beta stay inside; a fit that ends there is reported as at a bound."""
AMPLITUDE_FLOOR = 1e-6
"""An amplitude below this share of the typical loss counts as zero."""
_LOW = np.array([0.0, 0.0, 0.0, EXPONENT_BOUNDS[0], EXPONENT_BOUNDS[0]])
_HIGH = np.array([np.inf, np.inf, np.inf, EXPONENT_BOUNDS[1], EXPONENT_BOUNDS[1]])
_ITERATIONS = 200


@dataclass(frozen=True)
class Surface:
    """Observations in natural units: logs of N, D and L relative to their geometric means, each of shape (M,)."""

    x: np.ndarray
    y: np.ndarray
    log_level: np.ndarray
    level: np.ndarray
    centre: tuple[float, float, float]

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

    def jacobian(self, parameters: np.ndarray) -> np.ndarray:
        """Return the derivatives of the residuals by the five centred parameters, (R, 5, M)."""
        power_x, power_y, predicted = self.terms(parameters)
        return _jacobian(self, parameters, power_x, power_y, predicted)


def huber(residuals: np.ndarray, delta: float) -> np.ndarray:
    """Return Huber's loss of each residual: r^2/2 within `delta`, delta (|r| - delta/2) beyond."""
    size = np.abs(residuals)
    return np.where(size <= delta, 0.5 * size * size, delta * (size - 0.5 * delta))


def objective(surface: Surface, parameters: np.ndarray, weights: np.ndarray, delta: float) -> np.ndarray:
    """Return the weighted SUM of Huber losses, (R,), for centred parameters (R, 5) and weights (R or 1, M)."""
    return (weights * huber(surface.residuals(parameters), delta)).sum(axis=1)


def polish(surface: Surface, starts: np.ndarray, weights: np.ndarray, delta: float) -> tuple[np.ndarray, np.ndarray]:
    """Descend from each start (R, 5) under its weights (R, M). Returns solutions (R, 5) and converged (R,).

    No start ends worse than it began. Bounds: amplitudes >= 0, exponents within EXPONENT_BOUNDS.
    """
    solutions = np.clip(starts, _LOW, _HIGH)
    finished = np.zeros(len(starts), dtype=bool)
    rows = np.arange(len(starts))
    point, weight = solutions.copy(), weights
    value = objective(surface, point, weight, delta)
    mix, damping = np.ones(len(rows)), np.full(len(rows), 1e-3)
    small = np.zeros(len(rows), dtype=int)
    for _ in range(_ITERATIONS):
        trial = point + _step(surface, point, weight, delta, mix, damping)
        trial = np.clip(trial, _LOW, _HIGH)
        trial_value = objective(surface, trial, weight, delta)
        accepted = trial_value < value
        gain = np.where(accepted, value - trial_value, 0.0)
        moved = np.abs(trial - point).max(axis=1)
        tiny = np.where(accepted, gain <= 1e-13 * value, damping > 1e6) | (moved < 1e-14)
        small = np.where(tiny, small + 1, 0)
        point = np.where(accepted[:, None], trial, point)
        value = np.where(accepted, trial_value, value)
        mix = np.where(accepted, np.where(mix < 1e-3, 0.0, 0.2 * mix), np.minimum(1.0, np.maximum(8 * mix, 0.05)))
        damping = np.clip(np.where(accepted, 0.2 * damping, 5.0 * damping), 1e-12, 1e12)
        done = (small >= 2) | (value <= 1e-29 * surface.x.size) | (damping > 1e8)
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


def _jacobian(
    surface: Surface, parameters: np.ndarray, power_x: np.ndarray, power_y: np.ndarray, predicted: np.ndarray
) -> np.ndarray:
    jacobian = np.empty((len(parameters), 5, surface.x.size))
    np.divide(1.0, predicted, out=jacobian[:, 0])
    np.multiply(power_x, jacobian[:, 0], out=jacobian[:, 1])
    np.multiply(power_y, jacobian[:, 0], out=jacobian[:, 2])
    np.multiply(jacobian[:, 1], -parameters[:, 1:2] * surface.x, out=jacobian[:, 3])
    np.multiply(jacobian[:, 2], -parameters[:, 2:3] * surface.y, out=jacobian[:, 4])
    return jacobian


def _step(
    surface: Surface, parameters: np.ndarray, weights: np.ndarray, delta: float, mix: np.ndarray, damping: np.ndarray
) -> np.ndarray:
    """Return one damped step per row, (R, 5), with parameters held that press against a bound."""
    power_x, power_y, predicted = surface.terms(parameters)
    jacobian = _jacobian(surface, parameters, power_x, power_y, predicted)
    residuals = np.log(np.maximum(predicted, 1e-300)) - surface.log_level
    size = np.abs(residuals)
    inside = size <= delta
    slope = weights * np.clip(residuals, -delta, delta)
    gradient = np.einsum("rim,rm->ri", jacobian, slope)
    majorant = weights * np.where(inside, 1.0, delta / np.maximum(size, 1e-300))
    exact = np.where(inside, weights, 0.0) - slope
    curvature = (1 - mix[:, None]) * exact + mix[:, None] * majorant
    hessian = (jacobian * curvature[:, None, :]) @ jacobian.transpose(0, 2, 1)
    _add_second_derivatives(hessian, surface, parameters, jacobian, slope, 1 - mix)
    scale = np.einsum("rim,rim,rm->ri", jacobian, jacobian, majorant)
    diagonal = np.arange(5)
    hessian[:, diagonal, diagonal] += damping[:, None] * scale + 1e-14 * scale.max(axis=1, keepdims=True) + 1e-300
    held = ((parameters <= _LOW) & (gradient > 0)) | ((parameters >= _HIGH) & (gradient < 0))
    gradient = np.where(held, 0.0, gradient)
    hessian = np.where(held[:, :, None] | held[:, None, :], 0.0, hessian)
    hessian[:, diagonal, diagonal] = np.where(held, 1.0, hessian[:, diagonal, diagonal])
    return -_solve(hessian, gradient)


def _add_second_derivatives(
    hessian: np.ndarray,
    surface: Surface,
    parameters: np.ndarray,
    jacobian: np.ndarray,
    slope: np.ndarray,
    share: np.ndarray,
) -> None:
    """Add share * sum(slope * second derivatives of the prediction / prediction); only A-alpha and B-beta have any."""
    for amplitude, exponent, logs in ((1, 3, surface.x), (2, 4, surface.y)):
        weighted = jacobian[:, amplitude] * slope
        once = -share * (weighted @ logs)
        hessian[:, amplitude, exponent] += once
        hessian[:, exponent, amplitude] += once
        hessian[:, exponent, exponent] += share * parameters[:, amplitude] * (weighted @ (logs * logs))


def _solve(hessian: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Solve the batch after scaling each matrix to a unit diagonal; an unsolvable row gets a zero step."""
    diagonal = np.sqrt(np.abs(np.einsum("rii->ri", hessian)))
    diagonal = np.where(diagonal > 0, diagonal, 1.0)
    scaled = hessian / (diagonal[:, :, None] * diagonal[:, None, :])
    scaled[:, np.arange(5), np.arange(5)] += 1e-15
    right = (gradient / diagonal)[:, :, None]
    try:
        solved = np.linalg.solve(scaled, right)[:, :, 0] / diagonal
    except np.linalg.LinAlgError:
        solved = (np.linalg.pinv(scaled) @ right)[:, :, 0] / diagonal
    return np.where(np.isfinite(solved).all(axis=1, keepdims=True), solved, 0.0)
