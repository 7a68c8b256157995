"""A run's loss against steps, tokens or FLOP: a power law with an offset or an exponential, chosen by hold-out.

power: L = E + A x^-alpha. exponential: L = E + A exp(-x/tau). Each is fitted to the first part of the curve and asked
for the rest; the form with the smaller error there is then fitted to all of it. Curves that no such form describes,
rising at the end (over-fitting) or rising and falling again (double descent), are found before and reported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gpt2cli.errors import BadInput, counted
from gpt2cli.scaling.curves import Curve
from gpt2cli.scaling.separable import Answer, Problem, Separable, interval_of
from gpt2cli.scaling.separable import Shape as Basis

FORMS = {"power": "E + A x^-alpha", "exponential": "E + A exp(-x/tau)"}
HELD_OUT = 0.2
"""Last share of the points that choose the form."""
LEAST_POINTS = 8
_FREE = 3
"""Values that a fit takes from the points: E, A, and alpha or tau."""
_LEAST_LOSS, _MOST = 1e-9, 1e40
_POWERS = (0.01, 4.0)
_TAUS = (0.02, 20.0)
"""tau over the last x stays inside."""
_BINS = 16
_NOISE = 5.0
_RISE = 0.003


@dataclass(frozen=True)
class Shape:
    """What a curve does that no fit describes: rises after `x_lowest` by `rise` nats, and whether it falls again below
    that minimum (`double_descent`) or ends above it (`overfitting`)."""

    x_lowest: float
    loss_lowest: float
    rise: float
    double_descent: bool
    overfitting: bool


@dataclass(frozen=True)
class CurveFit:
    """A fitted curve: form, parameters and intervals, hold-out error of each form (rms, share of the loss), answers."""

    run: str
    form: str
    parameters: dict[str, float]
    intervals: dict[str, tuple[float, float] | None]
    holdout: dict[str, float]
    rms: float
    points: int
    x_range: tuple[float, float]
    answers: tuple[Answer, ...]
    shape: Shape | None
    warnings: tuple[str, ...]


def fit_curve(
    curve: Curve, split: str, axis: str, form: str | None, at: Sequence[float], resamples: int = 0, seed: int = 0
) -> CurveFit:
    """Fit one run's losses on `split` ("val" or "train") against `axis` ("steps", "tokens" or "flops").

    Records of the warm-up are left out. Intervals are percentiles of refits to the fitted curve with its residuals in
    another order, see _redrawn. Raises BadInput for fewer than LEAST_POINTS points.
    """
    records = curve.evaluations if split == "val" else curve.steps
    phases = [str(record.get("lr_phase")) for record in records]
    kept = Curve(curve.run, curve.n_params, *(
        [record for record in kind if record.get("lr_phase") != "warmup"] for kind in (curve.steps, curve.evaluations)
    ))  # fmt: skip
    x, y = (kept.validation(axis) if split == "val" else kept.training(axis)) if records else (np.empty(0),) * 2
    x, y = x[x > 0], y[x > 0]
    if not (np.all((y > _LEAST_LOSS) & (y < _MOST)) and np.all(x < _MOST)):
        raise BadInput(f"run {curve.run!r}: a loss on {split} is no positive number, or {axis} are beyond all counts")
    if len(np.unique(x)) < LEAST_POINTS:
        raise BadInput(f"run {curve.run!r} has {counted(len(np.unique(x)), 'point')} on {split} after the "
                       f"warm-up; a curve needs {LEAST_POINTS}")  # fmt: skip
    holdout = {name: _holdout(name, x, y) for name in FORMS}
    chosen = form or min(holdout, key=lambda name: holdout[name])
    problem, shape_at = _problem(chosen, x, y)
    best = problem.fit()
    drawn = _redrawn(problem, best, resamples, seed)
    names = [_parameters(chosen, one, float(x[-1])) for one in (best, *drawn)]

    def answer(value: float) -> Answer:
        place = shape_at(np.array([value], dtype=np.float64))  # of an integer too, of any size
        found = [float(problem.predict(one, place)[0]) for one in (best, *drawn)]
        return Answer(value, found[0], interval_of(found[1:]))

    def predict(values: np.ndarray) -> np.ndarray:
        return problem.predict(best, shape_at(values))

    rms = float(np.sqrt(np.mean((predict(x) / y - 1) ** 2)))
    found = shape_of(x, y)
    said = _warnings(curve.run, phases, x, best, chosen, found, at)
    intervals = {name: interval_of([entry[name] for entry in names[1:]]) for name in names[0]}
    return CurveFit(curve.run, chosen, names[0], intervals, holdout, rms, len(x), (float(x[0]), float(x[-1])),
                    tuple(answer(value) for value in at), found, tuple(said))  # fmt: skip


def shape_of(x: np.ndarray, y: np.ndarray) -> Shape | None:
    """Return what rises in a curve of losses `y` (M,) at `x` (M,) beyond its noise; None for one that falls.

    The curve is taken in up to _BINS stretches of equal length. The rise is the largest from a stretch's mean to a
    later one's; it counts above _RISE of the loss and _NOISE standard errors, which the scatter in stretches gives.
    """
    parts = np.array_split(np.arange(len(y)), min(_BINS, len(y)))
    level = np.array([y[part].mean() for part in parts])
    error = np.array([_standard_error(y[part]) for part in parts])
    lowest = np.array([int(np.argmin(level[: i + 1])) for i in range(len(level))])
    top = int(np.argmax(level - level[lowest]))
    bottom = int(lowest[top])
    rise = float(level[top] - level[bottom])
    if rise <= max(_RISE * level[bottom], _NOISE * math.hypot(error[top], error[bottom])):
        return None
    again, ends_above = level[top] - level[top:].min() > 0.5 * rise, level[-1] > level[bottom] + 0.5 * rise
    return Shape(float(x[parts[bottom]].mean()), float(level[bottom]), rise, bool(again), bool(ends_above))


def _standard_error(y: np.ndarray) -> float:
    """Return the standard error of the mean of a stretch about its own line; 0 for fewer than four points."""
    if len(y) < 4:
        return 0.0
    steps = np.arange(len(y)) - (len(y) - 1) / 2
    residuals = y - y.mean() - steps * float(steps @ y / (steps @ steps))
    return float(np.sqrt((residuals**2).sum() / (len(y) - 2) / len(y)))


def _redrawn(problem: Problem, best: Separable, resamples: int, seed: int) -> list[Separable]:
    """Refit the fitted curve with its relative residuals drawn anew, in blocks of neighbours.

    Losses near each other err alike, so single residuals would promise too much; M^(1/3) is the usual length of a
    block. Residuals are widened for the three values that the fit took.
    """
    fitted = problem.predict(best, problem.shape)
    count = len(fitted)
    residuals = (problem.y / fitted - 1) * math.sqrt(count / (count - _FREE))
    length = max(1, round(count ** (1 / 3)))
    generator = np.random.Generator(np.random.PCG64(seed))
    blocks = -(-count // length)
    firsts = generator.integers(0, count, size=(resamples, blocks))
    index = (firsts[:, :, None] + np.arange(length)).reshape(resamples, blocks * length)[:, :count] % count
    return [replace(problem, y=fitted * (1 + residuals[row])).fit(best.theta) for row in index]


def _problem(form: str, x: np.ndarray, y: np.ndarray) -> tuple[Problem, Callable[[np.ndarray], Basis]]:
    """Return the least-squares problem of relative errors, and the form's shape at any x."""
    last = float(x[-1])

    def shape_at(values: np.ndarray) -> Basis:
        scaled = values / last
        if form == "power":
            return lambda theta: np.exp(-theta[:, :1] * np.log(scaled))
        return lambda theta: np.exp(-scaled / np.exp(theta[:, :1]))

    low, high = _POWERS if form == "power" else (math.log(_TAUS[0]), math.log(_TAUS[1]))
    return Problem(y, 1 / y**2, shape_at(x), (low,), (high,), least_floor=0.0), shape_at


def _holdout(form: str, x: np.ndarray, y: np.ndarray) -> float:
    cut = max(4, round((1 - HELD_OUT) * len(x)))
    problem, shape_at = _problem(form, x[:cut], y[:cut])
    foretold = problem.predict(problem.fit(), shape_at(x[cut:]))
    return float(np.sqrt(np.mean((foretold / y[cut:] - 1) ** 2)))


def _parameters(form: str, best: Separable, last: float) -> dict[str, float]:
    if form == "power":
        return {"E": best.floor, "A": best.amplitude * last ** best.theta[0], "alpha": best.theta[0]}
    return {"E": best.floor, "A": best.amplitude, "tau": math.exp(best.theta[0]) * last}


def _warnings(
    run: str, phases: list[str], x: np.ndarray, best: Separable, form: str, found: Shape | None, at: Sequence[float]
) -> list[str]:
    said = []
    if found is not None and found.double_descent:
        said.append(f"run {run!r}: the loss falls to {found.loss_lowest:.4f} at {found.x_lowest:.6g}, rises by "
                    f"{found.rise:.4f} and falls again (double descent, or a spike): no falling curve describes it")
    elif found is not None and found.overfitting:
        said.append(f"run {run!r}: the loss is lowest ({found.loss_lowest:.4f}) at {found.x_lowest:.6g} and then rises "
                    f"by {found.rise:.4f} (over-fitting?): stop there, and do not extrapolate")
    if best.at_bound or best.amplitude <= 0:
        said.append(f"run {run!r}: the {form} ran to the end of its range; the curve does not show this form")
    if "decay" in phases:
        said.append("the learning rate decays inside the curve, which bends it: the fit describes that schedule, not a "
                    "longer run's")  # fmt: skip
    if at and max(at) > 3 * x[-1]:
        said.append(f"run {run!r}: {max(at):.6g} is {max(at) / x[-1]:.1f} times the curve's end")
    return said
