"""The fit of L = E + A N^-alpha + B D^-beta: variable projection on a grid, then a damped Newton/IRLS polish.

For fixed (alpha, beta) the surface is linear in (E, A, B), so a grid of exponents with a closed-form non-negative
linear solve at each cell finds the basin, whatever the noise; the polish then solves the whole problem in it.
Everything is a batch: the grid's best cells are polished together, and so are the resamples of a bootstrap.

Objective: the SUM (never the mean) of Huber(delta) of log residuals, Hoffmann et al. 2022 section 3.3. N, D and L are
divided by their geometric means first, so the result does not depend on their units.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpt2cli.scaling.polish import AMPLITUDE_FLOOR, EXPONENT_BOUNDS, Problem, Surface, objective, polish

DEFAULT_DELTA = 1e-3
GRID = np.geomspace(0.025, 2.0, 24)
"""Exponents tried for alpha and for beta in a point fit."""
COARSE_GRID = np.geomspace(0.03, 1.6, 12)
"""Exponents tried for each resample of a bootstrap, beside the point fit's own."""
_GRID_ROUNDS = 6
_CANDIDATES = 8
_CHUNK = 1 << 17
"""Residuals held at once in a bootstrap: resamples are fitted in groups that stay in cache."""
LAD_DELTAS = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
"""`delta` 0 (least absolute deviations) is the limit of these."""


@dataclass(frozen=True)
class Fit:
    """A point fit: parameters (E, A, B, alpha, beta), the summed Huber objective, and how it ended.

    `residuals` are log(predicted) - log(observed), shape (M,). `at_bound` names parameters that ran to a bound.
    `condition` is the condition number of the Jacobian with unit columns, None when a column vanished.
    """

    parameters: np.ndarray
    objective: float
    delta: float
    residuals: np.ndarray
    at_bound: tuple[str, ...]
    condition: float | None
    converged: bool


def fit_surface(n: np.ndarray, d: np.ndarray, loss: np.ndarray, delta: float = DEFAULT_DELTA) -> Fit:
    """Fit the surface to M observations; `n`, `d`, `loss` are positive, shape (M,). `delta` 0: absolute deviations.

    Returns the best fit found; it says nothing about whether the design identifies it (see diagnosis).
    """
    surface = Surface.of(n, d, loss)
    weights = np.ones((1, surface.x.size))
    starts = _grid_starts(surface, max(delta, DEFAULT_DELTA))
    solutions, converged = descend(surface, starts, np.repeat(weights, len(starts), axis=0), delta)
    values = objective(surface, solutions, weights, effective(delta))
    best = int(np.argmin(values))
    residuals = surface.residuals(solutions[best : best + 1])[0]
    return Fit(
        parameters=surface.to_units(solutions[best]),
        objective=float(np.abs(residuals).sum() if delta == 0 else values[best]),
        delta=delta,
        residuals=residuals,
        at_bound=_bounds_met(solutions[best]),
        condition=condition_number(surface, solutions[best]),
        converged=bool(converged[best]),
    )


def fit_resamples(
    n: np.ndarray, d: np.ndarray, loss: np.ndarray, weights: np.ndarray, start: np.ndarray, delta: float = DEFAULT_DELTA
) -> np.ndarray:
    """Fit R reweighted copies of the data at once. Returns parameters, shape (R, 5).

    `weights` (R, M) are how often each observation counts; `start` (5,) is the point fit, tried beside a coarse grid.
    """
    surface = Surface.of(n, d, loss)
    centre = surface.from_units(start)[None, :]
    huber = effective(delta)
    rows = max(1, _CHUNK // surface.x.size)
    solutions = np.empty((len(weights), 5))
    for first in range(0, len(weights), rows):
        part = weights[first : first + rows]
        grid = _least_squares_starts(surface, part)
        better = objective(surface, grid, part, huber) < objective(surface, centre, part, huber)
        solutions[first : first + rows], _ = descend(surface, np.where(better[:, None], grid, centre), part, delta)
    return surface.to_units(solutions)


def condition_number(problem: Problem, parameters: np.ndarray) -> float | None:
    """Return the condition number of the log residuals' Jacobian, columns scaled to length 1, N and D centred."""
    jacobian = problem.linearise(parameters[None, :])[1][0]
    norms = np.linalg.norm(jacobian, axis=1)
    if not np.all(norms > 1e-12):
        return None
    values = np.linalg.svd(jacobian / norms[:, None], compute_uv=False)
    if values.size < len(parameters) or values[-1] < 1e-12 * values[0]:
        return None
    return float(values[0] / values[-1])


def effective(delta: float) -> float:
    """Return the Huber threshold by which solutions are compared: `delta`, or LAD's smallest for 0."""
    return delta if delta > 0 else LAD_DELTAS[-1]


def descend(problem: Problem, starts: np.ndarray, weights: np.ndarray, delta: float) -> tuple[np.ndarray, np.ndarray]:
    """Polish each start (R, P) under its weights (R, M); `delta` 0 goes down LAD_DELTAS. Returns as polish does."""
    if delta > 0:
        return polish(problem, starts, weights, delta)
    solutions, converged = starts, np.zeros(len(starts), dtype=bool)
    for step in LAD_DELTAS:
        solutions, converged = polish(problem, solutions, weights, step)
    return solutions, converged


def _bounds_met(parameters: np.ndarray) -> tuple[str, ...]:
    low, high = EXPONENT_BOUNDS
    met = [name for name, value in zip("EAB", parameters[:3], strict=True) if value <= AMPLITUDE_FLOOR]
    met += [
        name
        for name, value in zip(("alpha", "beta"), parameters[3:], strict=True)
        if value <= low * 1.001 or value >= high * 0.999
    ]
    return tuple(met)


def _grid_starts(surface: Surface, delta: float) -> np.ndarray:
    """Return the best cells of the grid after a few rounds of reweighted non-negative least squares, shape (K, 5)."""
    x_basis = np.exp(-GRID[:, None] * surface.x)
    y_basis = np.exp(-GRID[:, None] * surface.y)
    target = surface.level
    scale = 1.0 / target**2
    weights = np.broadcast_to(scale, (GRID.size, GRID.size, target.size))
    best_value = np.full((GRID.size, GRID.size), np.inf)
    best = np.zeros((GRID.size, GRID.size, 3))
    for _ in range(_GRID_ROUNDS):
        amplitudes = nonnegative_solve(*_moments(weights, x_basis, y_basis, target))
        predicted = (
            amplitudes[..., 0:1]
            + amplitudes[..., 1:2] * x_basis[:, None, :]
            + amplitudes[..., 2:3] * y_basis[None, :, :]
        )
        size = np.abs(np.log(np.maximum(predicted, 1e-300)) - surface.log_level)
        value = np.where(size < delta, 0.5 * size * size, delta * (size - 0.5 * delta)).sum(axis=-1)
        best = np.where((value < best_value)[..., None], amplitudes, best)
        best_value = np.minimum(value, best_value)
        weights = scale * np.minimum(1.0, delta / np.maximum(size, 1e-300))
    return _local_minima(best_value, best)


def _local_minima(value: np.ndarray, amplitudes: np.ndarray) -> np.ndarray:
    """Return up to _CANDIDATES starts: the grid's local minima by value, then its next best cells."""
    padded = np.pad(value, 1, constant_values=np.inf)
    rows, columns = value.shape
    neighbours = [padded[i : i + rows, j : j + columns] for i in range(3) for j in range(3) if (i, j) != (1, 1)]
    is_minimum = np.all([value <= other for other in neighbours], axis=0)
    order = np.lexsort((value.ravel(), ~is_minimum.ravel()))[:_CANDIDATES]
    i, j = np.unravel_index(order, value.shape)
    return np.column_stack([amplitudes[i, j], GRID[i], GRID[j]])


def _moments(
    weights: np.ndarray, x_basis: np.ndarray, y_basis: np.ndarray, target: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return Gram matrices (G, G, 3, 3) and right sides (G, G, 3) of the weighted problems on (1, x, y)."""
    shape = weights.shape[:2]
    gram, right = np.empty((*shape, 3, 3)), np.empty((*shape, 3))
    x_all, y_all = x_basis[:, None, :], y_basis[None, :, :]
    weighted_x, weighted_y = weights * x_all, weights * y_all
    gram[..., 0, 0] = weights.sum(-1)
    gram[..., 0, 1] = gram[..., 1, 0] = weighted_x.sum(-1)
    gram[..., 0, 2] = gram[..., 2, 0] = weighted_y.sum(-1)
    gram[..., 1, 1] = (weighted_x * x_all).sum(-1)
    gram[..., 2, 2] = (weighted_y * y_all).sum(-1)
    gram[..., 1, 2] = gram[..., 2, 1] = (weighted_x * y_all).sum(-1)
    right[..., 0], right[..., 1], right[..., 2] = weights @ target, weighted_x @ target, weighted_y @ target
    return gram, right


def _least_squares_starts(surface: Surface, weights: np.ndarray) -> np.ndarray:
    """Return for each resample the best cell of the coarse grid in weighted relative least squares, shape (R, 5).

    Every moment is linear in the weights, so one matrix product gives them for all resamples and cells.
    """
    size = COARSE_GRID.size
    x_basis, y_basis = np.exp(-COARSE_GRID[:, None] * surface.x), np.exp(-COARSE_GRID[:, None] * surface.y)
    target = surface.level
    scaled = weights / target**2
    shape = (len(weights), size, size)
    gram, right = np.empty((*shape, 3, 3)), np.empty((*shape, 3))
    cross = x_basis[:, None, :] * y_basis[None, :, :]
    gram[..., 0, 0] = scaled.sum(-1)[:, None, None]
    gram[..., 0, 1] = gram[..., 1, 0] = (scaled @ x_basis.T)[:, :, None]
    gram[..., 0, 2] = gram[..., 2, 0] = (scaled @ y_basis.T)[:, None, :]
    gram[..., 1, 1] = (scaled @ (x_basis * x_basis).T)[:, :, None]
    gram[..., 2, 2] = (scaled @ (y_basis * y_basis).T)[:, None, :]
    gram[..., 1, 2] = gram[..., 2, 1] = (scaled @ cross.reshape(size * size, -1).T).reshape(shape)
    right[..., 0] = (scaled @ target)[:, None, None]
    right[..., 1] = (scaled @ (x_basis * target).T)[:, :, None]
    right[..., 2] = (scaled @ (y_basis * target).T)[:, None, :]
    amplitudes = nonnegative_solve(gram, right)
    gained = np.einsum("rghi,rghi->rgh", amplitudes, right)  # residual = constant - gained at the optimum
    best = gained.reshape(len(weights), -1).argmax(axis=1)
    i, j = np.unravel_index(best, (size, size))
    rows = np.arange(len(weights))
    return np.column_stack([amplitudes[rows, i, j], COARSE_GRID[i], COARSE_GRID[j]])


def nonnegative_solve(gram: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve min |X c - t|^2 with c >= 0 for batches of three unknowns, given X'X (..., 3, 3) and X't (..., 3).

    In closed form: the optimum of one of the seven supports is the answer, the full one whenever it is feasible.
    """
    best = np.zeros(right.shape)
    best_gain = np.zeros(right.shape[:-1])
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for i in range(3):
            value = right[..., i] / gram[..., i, i]
            _keep_better(best, best_gain, (i,), (value,), right)
        for i, j in ((0, 1), (0, 2), (1, 2)):
            determinant = gram[..., i, i] * gram[..., j, j] - gram[..., i, j] ** 2
            first = (gram[..., j, j] * right[..., i] - gram[..., i, j] * right[..., j]) / determinant
            second = (gram[..., i, i] * right[..., j] - gram[..., i, j] * right[..., i]) / determinant
            _keep_better(best, best_gain, (i, j), (first, second), right)
        full = _solve_three(gram, right)
    feasible = np.all((full >= 0) & np.isfinite(full), axis=-1)
    return np.where(feasible[..., None], full, best)


def _keep_better(
    best: np.ndarray, best_gain: np.ndarray, support: tuple[int, ...], values: tuple[np.ndarray, ...], right: np.ndarray
) -> None:
    gain = sum(value * right[..., i] for i, value in zip(support, values, strict=True))
    better = np.isfinite(gain) & (gain > best_gain)
    for value in values:
        better &= value >= 0
    best_gain[...] = np.where(better, gain, best_gain)
    best[better] = 0.0
    for i, value in zip(support, values, strict=True):
        best[..., i] = np.where(better, value, best[..., i])


def _solve_three(gram: np.ndarray, right: np.ndarray) -> np.ndarray:
    a, b, c = gram[..., 0, 0], gram[..., 0, 1], gram[..., 0, 2]
    d, e, f = gram[..., 1, 1], gram[..., 1, 2], gram[..., 2, 2]
    aa, ab, ac = d * f - e * e, c * e - b * f, b * e - c * d
    bb, bc, cc = a * f - c * c, b * c - a * e, a * d - b * b
    determinant = a * aa + b * ab + c * ac
    p, q, r = right[..., 0], right[..., 1], right[..., 2]
    return (
        np.stack([aa * p + ab * q + ac * r, ab * p + bb * q + bc * r, ac * p + bc * q + cc * r], axis=-1)
        / determinant[..., None]
    )
