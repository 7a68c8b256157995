"""A task's metric against N, D or C: a logistic in log x for shares of items, a power law with an offset for losses.

logistic: y = floor + (ceiling - floor) / (1 + (x/x_half)^-slope), with the floor that guessing gives and the ceiling
given. power: y = E + A x^-alpha (A below 0 for a metric that rises). Both by separable least squares, weighted by the
standard errors where every point has one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gpt2cli.errors import BadInput
from gpt2cli.scaling.capabilities import TEXT_METRICS, Series
from gpt2cli.scaling.separable import Answer, Problem, Separable, interval_of

FORMS = {
    "logistic": "floor + (ceiling - floor) / (1 + (x/x_half)^-slope)",
    "power": "E + A x^-alpha",
}
VARIABLES = {"n": "parameters", "d": "tokens", "c": "FLOP"}
_LEAST = {"logistic": 3, "power": 4}
"""One more point than there are free values, so that a residual is left."""
_SLOPES, _POWERS = (0.02, 12.0), (0.005, 4.0)
_LOSSES = (*TEXT_METRICS, "perplexity")


@dataclass(frozen=True)
class CapabilityFit:
    """The fit of one series: form, parameters with intervals, residuals, and what a careful person should know."""

    label: str
    metric: str
    variable: str
    form: str
    parameters: dict[str, float]
    intervals: dict[str, tuple[float, float] | None]
    points: tuple[tuple[str, float, float, float | None], ...]
    fitted: tuple[float, ...]
    answers: tuple[Answer, ...]
    warnings: tuple[str, ...]


def default_form(metric: str) -> str:
    """Return "power" for losses and perplexities, "logistic" for everything else (shares of items)."""
    return "power" if metric in _LOSSES else "logistic"


def points_against(series: Series, variable: str) -> list[tuple[str, float, float, float | None]]:
    """Return (run, x, value, stderr) by x: of each size the most trained for "n", every model for "d" and "c".

    Models whose x is unknown are left out.
    """
    chosen = series.line() if variable == "n" else series.points
    rows = [(point.run, {"n": point.n_params, "d": point.tokens, "c": point.flops}[variable], point.value, point.stderr)
            for point in chosen]  # fmt: skip
    return sorted((row for row in rows if row[1] > 0), key=lambda row: (row[1], row[0]))


def fit_series(
    series: Series, variable: str, form: str | None, bounds: tuple[float, float], at: Sequence[float], resamples: int,
    seed: int,
) -> CapabilityFit:  # fmt: skip
    """Fit one series; `bounds` are (floor, ceiling) of a logistic, `at` the x to answer for.

    Intervals are percentiles of refits to the fitted curve with noise of the points' standard errors, or of the
    residuals' size where these are unknown. Raises BadInput for too few models.
    """
    form = form or default_form(series.metric)
    points = points_against(series, variable)
    if len({row[1] for row in points}) < _LEAST[form]:
        raise BadInput(
            f"{series.label} {series.metric}: {len({row[1] for row in points})} models that differ in "
            f"{VARIABLES[variable]}; a {form} fit needs {_LEAST[form]}"
        )
    x, y = np.array([row[1] for row in points]), np.array([row[2] for row in points])
    errors = np.array([row[3] if row[3] else math.nan for row in points], dtype=float)
    known = bool(np.isfinite(errors).all())
    centre = float(np.log(x).mean())
    problem = _problem(form, np.log(x) - centre, y, 1 / errors**2 if known else np.ones(len(x)), bounds)
    best = problem.fit()
    fitted, spare = problem.predict(best, problem.shape), max(len(x) - _LEAST[form] + 1, 1)
    sigma = errors if known else np.full(len(x), float(np.sqrt(((fitted - y) ** 2).sum() / spare)))
    drawn = _resampled(problem, best, fitted, sigma, resamples, seed, None if known else spare)
    names = [_parameters(form, one, centre) for one in (best, *drawn)]
    intervals = {name: interval_of([entry[name] for entry in names[1:]]) for name in names[0]}
    answers = tuple(_answer(form, value, centre, problem, best, drawn) for value in at)
    return CapabilityFit(series.label, series.metric, variable, form, names[0], intervals, tuple(points),
                         tuple(float(value) for value in fitted), answers,
                         tuple(_warnings(series, variable, form, bounds, best, y, fitted, sigma, known)))  # fmt: skip


def _problem(form: str, z: np.ndarray, y: np.ndarray, weights: np.ndarray, bounds: tuple[float, float]) -> Problem:
    if form == "power":
        return Problem(y, weights, lambda t: np.exp(-t[:, :1] * z), _POWERS[:1], _POWERS[1:])
    reach = 2 * float(np.ptp(z)) + 2

    def logistic(theta: np.ndarray) -> np.ndarray:
        return _logistic(theta, z)

    return Problem(y, weights, logistic, (_SLOPES[0], float(z.min()) - reach), (_SLOPES[1], float(z.max()) + reach),
                   floor=bounds[0], amplitude=bounds[1] - bounds[0])  # fmt: skip


def _logistic(theta: np.ndarray, z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(theta[:, :1] * (z - theta[:, 1:2]), -500, 500)))


def _parameters(form: str, fit: Separable, centre: float) -> dict[str, float]:
    if form == "power":
        return {"E": fit.floor, "A": fit.amplitude * math.exp(fit.theta[0] * centre), "alpha": fit.theta[0]}
    return {"floor": fit.floor, "ceiling": fit.floor + fit.amplitude, "slope": fit.theta[0],
            "x_half": math.exp(fit.theta[1] + centre)}  # fmt: skip


def _resampled(
    problem: Problem, best: Separable, fitted: np.ndarray, sigma: np.ndarray, resamples: int, seed: int,
    spare: int | None,
) -> list[Separable]:  # fmt: skip
    """Refit the fitted curve with noise of `sigma` (M,); `spare`: it was guessed from so many residuals to spare.

    A guess from few residuals is itself uncertain, by which Student's intervals are wider than the normal ones.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    noise = generator.standard_normal((resamples, len(fitted))) * sigma
    if spare is not None:
        noise *= np.sqrt(spare / generator.chisquare(spare, size=(resamples, 1)))
    return [
        Problem(fitted + one, problem.weights, problem.shape, problem.low, problem.high, problem.floor,
                problem.amplitude).fit(best.theta)
        for one in noise
    ]  # fmt: skip


def _answer(
    form: str, x: float, centre: float, problem: Problem, best: Separable, drawn: list[Separable]
) -> Answer:
    z = np.array([math.log(x) - centre])

    def shape(theta: np.ndarray) -> np.ndarray:
        return np.exp(-theta[:, :1] * z) if form == "power" else _logistic(theta, z)

    values = [float(problem.predict(one, shape)[0]) for one in (best, *drawn)]
    return Answer(x, values[0], interval_of(values[1:]))


def _warnings(
    series: Series, variable: str, form: str, bounds: tuple[float, float], best: Separable, y: np.ndarray,
    fitted: np.ndarray, sigma: np.ndarray, known: bool,
) -> list[str]:  # fmt: skip
    said, name = [], f"{series.label} {series.metric}"
    if variable == "d" and len({point.n_params for point in series.points}) > 1:
        said.append(f"{name}: models of several sizes lie on one curve of tokens; fit against n or c, or one size")
    if form == "logistic" and (y.min() < bounds[0] or y.max() > bounds[1]):
        said.append(f"{name}: a value lies outside {bounds[0]:g} to {bounds[1]:g}; set --floor and --ceiling")
    if form == "logistic" and y.max() < bounds[0] + 0.5 * (bounds[1] - bounds[0]):
        said.append(f"{name}: no model is half-way to the ceiling, so where the rise ends is a guess of the form")
    if best.at_bound:
        said.append(f"{name}: the fit ran to the end of its range; these models do not show this form")
    if known and len(y) > len(best.theta):
        excess = float((((fitted - y) / sigma) ** 2).sum()) / max(len(y) - 2, 1)
        if excess > 4:
            said.append(f"{name}: the points lie {math.sqrt(excess):.1f} standard errors from the curve; the intervals "
                        "are too narrow")  # fmt: skip
    return said
