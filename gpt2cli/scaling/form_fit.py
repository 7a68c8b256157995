"""The fit of any form of law: variable projection over its cells, then the damped polish that fit.py uses too.

Derivatives come from a complex step, exact to the last digits, so a form needs nothing but its formula.
The Chinchilla form has its own, faster path in fit.py; both minimise the same SUM of Huber losses of log residuals.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from gpt2cli.scaling.fit import (
    DEFAULT_DELTA,
    Fit,
    condition_number,
    descend,
    effective,
    fit_resamples,
    fit_surface,
    nonnegative_solve,
)
from gpt2cli.scaling.forms import Centre, Form, Variables
from gpt2cli.scaling.polish import AMPLITUDE_FLOOR, huber, objective, polish

_COMPLEX_STEP = 1e-30
_REAL_STEP = 1e-6
_ROUNDS = 4
_STARTS = 16
_FIRST_STEPS, _FINALISTS = 60, 4
"""Steps that all starts take, and how many then go down to the end."""
_CHUNK = 1 << 16
"""Residuals held at once: resamples are fitted in groups."""


@dataclass(frozen=True)
class FormProblem:
    """Observations of one form in centred variables; a Problem for polish.py."""

    form: Form
    z: Variables
    level: np.ndarray
    log_level: np.ndarray
    centre: Centre
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, form: Form, variables: Variables, loss: np.ndarray) -> FormProblem:
        """Centre logs of variables and the positive losses (M,). U is centred as D is: their ratio matters."""
        centre: Centre = {"loss": float(np.log(loss).mean())}
        moved: dict[str, np.ndarray] = {}
        for name in form.needs:
            values = variables.get(name)
            centre[name] = centre["d"] if name == "u" else float(values.mean())
            moved[name] = values - centre[name]
        log_level = np.log(loss) - centre["loss"]
        bounds = (np.array(form.low, dtype=float), np.array(form.high, dtype=float))
        return cls(form, replace(Variables(), **moved), np.exp(log_level), log_level, centre, *bounds)

    @property
    def size(self) -> int:
        """Number of observations, M."""
        return self.level.size

    def residuals(self, parameters: np.ndarray) -> np.ndarray:
        """Return log(predicted) - log(observed), (R, M), for theta (R, P)."""
        with np.errstate(all="ignore"):
            predicted = self.form.predict(parameters, self.z)
            return np.log(np.clip(np.nan_to_num(predicted, nan=1e300), 1e-300, 1e300)) - self.log_level

    def linearise(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the residuals (R, M) and their derivatives (R, P, M)."""
        jacobian = np.empty((*parameters.shape, self.size))
        with np.errstate(all="ignore"):
            for i in range(parameters.shape[1]):
                moved = parameters.astype(complex)
                moved[:, i] += 1j * _COMPLEX_STEP
                predicted = self.form.predict(moved, self.z)
                jacobian[:, i] = predicted.imag / _COMPLEX_STEP / np.maximum(predicted.real, 1e-300)
        return self.residuals(parameters), np.nan_to_num(jacobian, posinf=0.0, neginf=0.0)

    def add_second_derivatives(
        self, hessian: np.ndarray, parameters: np.ndarray, jacobian: np.ndarray, slope: np.ndarray, share: np.ndarray
    ) -> None:
        """See Problem. Forward differences of the gradient of the prediction, at fixed weights slope / prediction."""
        if not share.any():
            return
        with np.errstate(all="ignore"):
            weight = slope / np.maximum(self.form.predict(parameters, self.z), 1e-300)
            second = np.empty_like(hessian)
            here = self._gradient(parameters, weight)
            for i in range(parameters.shape[1]):
                step = _REAL_STEP * np.maximum(np.abs(parameters[:, i]), 1e-3)
                moved = parameters.copy()
                moved[:, i] += step
                second[:, i] = (self._gradient(moved, weight) - here) / step[:, None]
        second = np.nan_to_num(second, posinf=0.0, neginf=0.0)
        hessian += 0.5 * share[:, None, None] * (second + second.transpose(0, 2, 1))

    def _gradient(self, parameters: np.ndarray, weight: np.ndarray) -> np.ndarray:
        out = np.empty(parameters.shape)
        for i in range(parameters.shape[1]):
            moved = parameters.astype(complex)
            moved[:, i] += 1j * _COMPLEX_STEP
            out[:, i] = (weight * self.form.predict(moved, self.z).imag).sum(axis=1) / _COMPLEX_STEP
        return out


def fit_form(form: Form, variables: Variables, loss: np.ndarray, delta: float = DEFAULT_DELTA) -> Fit:
    """Fit one form to M observations: logs of the variables it needs and losses, (M,). See fit.fit_surface."""
    if form.name == "chinchilla":
        return fit_surface(np.exp(variables.get("n")), np.exp(variables.get("d")), loss, delta)
    problem = FormProblem.of(form, variables, loss)
    wide = max(delta, DEFAULT_DELTA)
    starts = _finalists(problem, _starts(problem, wide), wide)
    if form.logarithmic:
        starts = _finalists(problem, _decays_moved(problem, starts[0]), wide)
    solutions, converged = descend(problem, starts, np.ones((len(starts), problem.size)), delta)
    values = objective(problem, solutions, np.ones((1, problem.size)), effective(delta))
    best = int(np.argmin(values))
    residuals = problem.residuals(solutions[best : best + 1])[0]
    return Fit(
        parameters=form.to_units(solutions[best], problem.centre),
        objective=float(np.abs(residuals).sum() if delta == 0 else values[best]),
        delta=delta,
        residuals=residuals,
        at_bound=_bounds_met(problem, solutions[best]),
        condition=condition_number(problem, solutions[best]),
        converged=bool(converged[best]),
    )


def _finalists(problem: FormProblem, starts: np.ndarray, delta: float) -> np.ndarray:
    """Return where the most promising starts (K, P) are after some steps; those far from the floor descend slowest."""
    weights = np.ones((1, problem.size))
    begun, _ = polish(problem, starts, np.broadcast_to(weights, (len(starts), problem.size)), delta, _FIRST_STEPS)
    return begun[np.argsort(objective(problem, begun, weights, delta), kind="stable")[:_FINALISTS]]


def _decays_moved(problem: FormProblem, theta: np.ndarray) -> np.ndarray:
    """Return theta (P,) and copies with its decays threefold and a third: descents stop at kinks, where N meets U_N."""
    steps = np.array(list(product((0.0, math.log(3), -math.log(3)), repeat=len(problem.form.logarithmic))))
    moved = np.repeat(theta[None], len(steps), axis=0)
    moved[:, list(problem.form.logarithmic)] += steps
    return np.clip(moved, problem.low, problem.high)


def resample_form(
    form: Form,
    variables: Variables,
    loss: np.ndarray,
    weights: np.ndarray,
    start: np.ndarray,
    delta: float = DEFAULT_DELTA,
) -> np.ndarray:
    """Fit R reweighted copies of the data; returns parameters (R, P).

    `weights` (R, M) are how often each observation counts, `start` (P,) the point fit: each copy descends from it and
    from the best cells of the whole data's fit, and keeps the lowest.
    """
    if form.name == "chinchilla":
        return fit_resamples(np.exp(variables.get("n")), np.exp(variables.get("d")), loss, weights, start, delta)
    problem = FormProblem.of(form, variables, loss)
    starts = np.concatenate([form.from_units(start, problem.centre)[None], _starts(problem, DEFAULT_DELTA)])
    rows = max(1, _CHUNK // problem.size)
    out = np.empty((len(weights), len(form.parameters)))
    for first in range(0, len(weights), rows):
        part = weights[first : first + rows]
        values = np.stack([objective(problem, theta[None], part, effective(delta)) for theta in starts])
        chosen = starts[values.argmin(axis=0)]
        out[first : first + rows], _ = descend(problem, chosen, part, delta)
    return form.to_units(out, problem.centre)


def form_condition(form: Form, variables: Variables, loss: np.ndarray, parameters: np.ndarray) -> float | None:
    """Return the condition number of a law's Jacobian at any design; `loss` only sets the scale."""
    problem = FormProblem.of(form, variables, loss)
    return condition_number(problem, form.from_units(parameters, problem.centre))


def _bounds_met(problem: FormProblem, theta: np.ndarray) -> tuple[str, ...]:
    met = []
    for i, name in enumerate(problem.form.parameters):
        low, high = problem.low[i], problem.high[i]
        amplitude = low == 0 and high == np.inf
        at_low = theta[i] <= (AMPLITUDE_FLOOR if amplitude else low + 1e-3 * abs(low))
        if at_low or (not amplitude and theta[i] >= high - 1e-3 * abs(high)):
            met.append(name)
    return tuple(met)


def _starts(problem: FormProblem, delta: float) -> np.ndarray:
    """Return the best cells after a few rounds of reweighted non-negative least squares, at most _STARTS, (K, P)."""
    form, cells = problem.form, problem.form.cells.copy()
    share = np.ones((len(cells), problem.size))
    best_value, best = np.full(len(cells), np.inf), np.zeros((len(cells), len(form.parameters)))
    for _ in range(_ROUNDS):
        columns, target, scale = _linear_problems(problem, cells)
        amplitudes = _solve(columns, target, np.nan_to_num(share * scale**2, posinf=0.0))
        theta = np.array([form.theta(cell, found) for cell, found in zip(cells, amplitudes, strict=True)])
        residuals = problem.residuals(np.maximum(theta, problem.low))
        value = huber(residuals, delta).sum(axis=1)
        better = value < best_value
        best_value, best = np.where(better, value, best_value), np.where(better[:, None], theta, best)
        share = np.minimum(1.0, delta / np.maximum(np.abs(residuals), 1e-300))
        if form.guessed is not None:
            found = form.guessed(theta)
            cells[:, -1] = np.where(np.isfinite(found), found, cells[:, -1])
    return best[_spread(best_value, best[:, list(form.linear)].min(axis=1) > AMPLITUDE_FLOOR, form.cells)]


def _linear_problems(problem: FormProblem, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the bases (K, c, M), targets and relative weights (K, M) of the linear problems at `cells` (K, Q)."""
    shape = len(cells), problem.size
    with np.errstate(all="ignore"):
        basis, target, scale = problem.form.columns(cells.T[:, :, None], problem.z, problem.level)
    columns = np.stack([np.broadcast_to(column, shape) for column in basis], axis=1)
    return columns, np.broadcast_to(target, shape), np.broadcast_to(scale, shape)


def _spread(value: np.ndarray, whole: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Return the best cell for each value of each non-linear parameter, best first, at most _STARTS.

    Where a form has decays, cells with every amplitude above zero (`whole`) come first: without one of them nothing
    says where the decays lie, and no descent leads back.
    """
    chosen = set()
    for axis in cells.T:
        for level in np.unique(axis):
            members = np.flatnonzero(axis == level)
            chosen.add(int(members[np.argmin(value[members])]))
            if (members := members[whole[members]]).size:
                chosen.add(int(members[np.argmin(value[members])]))
    return np.array(sorted(chosen, key=lambda i: (value[i], i))[:_STARTS])


def _solve(basis: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Solve the non-negative problems of all cells: basis (K, c <= 3, M), target (K, M). Returns (K, 3)."""
    count = basis.shape[1]
    gram = np.broadcast_to(np.eye(3), (len(basis), 3, 3)).copy()
    right = np.zeros((len(basis), 3))
    with np.errstate(over="ignore", invalid="ignore"):  # of cells that no finite value of the objective chooses
        weighted = basis * weights[:, None]
        gram[:, :count, :count] = weighted @ basis.transpose(0, 2, 1)
        right[:, :count] = np.einsum("kcm,km->kc", weighted, target)
        return nonnegative_solve(gram, right)
