"""The forms of law that can be fitted, as data: formula, parameters, bounds, and the split into linear and non-linear.

Every form is written once, in centred variables: logs of N, D, C, S_min and U less their means, losses over their
geometric mean. Units enter and leave by `to_units` and `from_units`, so a fit does not depend on them. In theta
amplitudes come where the paper has a scale such as N_c: (N_c/N)^alpha is a N^-alpha.
Sources: Kaplan et al. 2020 (2001.08361), Hoffmann et al. 2022 (2203.15556), Muennighoff et al. 2023 (2305.16264).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType

import numpy as np

from gpt2cli.errors import UsageFault

EXPONENTS = (0.005, 4.0)
"""Every exponent stays inside; a fit that ends there is reported as at a bound."""
DECAYS = (1e-2, 1e4)
"""R_D and R_N, the repetitions after which data and parameters lose their worth, stay inside."""
_FINE = np.geomspace(0.02, 2.0, 32)
_GRID = np.geomspace(0.03, 1.8, 14)
_COARSE = np.geomspace(0.06, 1.5, 8)


@dataclass(frozen=True)
class Variables:
    """Logs of what a law may depend on, each (M,) or None: N, D, C, S_min (steps), U (unique tokens)."""

    n: np.ndarray | None = None
    d: np.ndarray | None = None
    c: np.ndarray | None = None
    s: np.ndarray | None = None
    u: np.ndarray | None = None

    def get(self, name: str) -> np.ndarray:
        """Return one of them; raise UsageFault when these runs do not know it."""
        values: np.ndarray | None = getattr(self, name)
        if values is None:
            raise UsageFault(f"these runs do not say {MEANINGS[name]}, which the law needs")
        return values


MEANINGS = MappingProxyType({
    "n": "their parameters N", "d": "their tokens D", "c": "their compute C", "s": "their steps and batch",
    "u": "how many of their tokens were unique (--unique, or u=COL in --map)",
})  # fmt: skip

Centre = dict[str, float]
"""Mean log of each variable, and "loss"."""
Predict = Callable[[np.ndarray, Variables], np.ndarray]
Columns = Callable[[np.ndarray, Variables, np.ndarray], tuple[list[np.ndarray], np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Power:
    """One term (scale/v)^exponent or a v^-exponent: positions in theta of its amplitude and exponent."""

    variable: str
    amplitude: int
    exponent: int
    scale: bool = False


@dataclass(frozen=True)
class Form:
    """One form. theta has the order of `parameters`; `linear` are the positions that a linear solve finds.

    `predict(theta (R, P), variables)` gives relative losses (R, M) and accepts complex theta. `columns(cell, variables,
    level)` gives the basis of the linear problem, its target and its relative weight at one cell of `cells` (K, Q).
    A cell holds the other parameters, and for data-constrained a guess of log G behind them.
    `outer` is the position of an exponent around the whole sum (kaplan-nd, skaling), whose amplitudes scale by 1/outer;
    `logarithmic` are positions that theta holds as logarithms.
    """

    name: str
    formula: str
    parameters: tuple[str, ...]
    needs: tuple[str, ...]
    terms: tuple[Power, ...]
    linear: tuple[int, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    cells: np.ndarray
    predict: Predict
    columns: Columns
    floor: bool = False
    outer: int | None = None
    logarithmic: tuple[int, ...] = ()
    guessed: Callable[[np.ndarray], np.ndarray] | None = None
    """What the last value of a cell guesses, as theta (K, P) has it, (K,); None: cells guess nothing."""

    def theta(self, cell: np.ndarray, amplitudes: np.ndarray) -> np.ndarray:
        """Put the cell's non-linear values and the solved amplitudes into one theta (P,)."""
        out = np.empty(len(self.parameters))
        out[list(self.linear)] = amplitudes[: len(self.linear)]
        others = [i for i in range(len(out)) if i not in self.linear]
        out[others] = cell[: len(others)]
        return out

    def to_units(self, theta: np.ndarray, centre: Centre) -> np.ndarray:
        """Turn centred theta (..., P) into parameters for the units of the data."""
        out = np.array(theta, dtype=float)
        for i in self.logarithmic:
            out[..., i] = np.exp(out[..., i])
        if self.floor:
            out[..., 0] *= math.exp(centre["loss"])
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            for term in self.terms:
                exponent = self.inner(theta, term)
                log = np.log(theta[..., term.amplitude]) + centre["loss"] / self._outer(theta)
                log = log + exponent * centre[term.variable]
                out[..., term.amplitude] = np.exp(log / exponent if term.scale else log)
        return out

    def from_units(self, parameters: np.ndarray, centre: Centre) -> np.ndarray:
        """Undo to_units."""
        out = np.array(parameters, dtype=float)
        for i in self.logarithmic:
            out[..., i] = np.log(out[..., i])
        if self.floor:
            out[..., 0] *= math.exp(-centre["loss"])
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            for term in self.terms:
                exponent = self.inner(parameters, term)
                log = np.log(parameters[..., term.amplitude])
                log = (log * exponent if term.scale else log) - exponent * centre[term.variable]
                out[..., term.amplitude] = np.exp(log - centre["loss"] / self._outer(parameters))
        return out

    def inner(self, theta: np.ndarray, term: Power) -> np.ndarray:
        """Return the exponent with which `term` enters the sum: kaplan-nd's are divided by alpha_D."""
        if self.name != "kaplan-nd":
            return np.asarray(theta[..., term.exponent])
        return np.asarray(theta[..., term.exponent] / theta[..., 3])

    def _outer(self, theta: np.ndarray) -> np.ndarray | float:
        return 1.0 if self.outer is None else np.asarray(theta[..., self.outer])


def _column(theta: np.ndarray, i: int) -> np.ndarray:
    return theta[:, i : i + 1]


def _power(variable: str, symbol: str, floor: bool) -> Form:
    """L = (v_c/v)^alpha, or E + (v_c/v)^alpha: Kaplan's equations 1.1 to 1.3, with or without an irreducible loss."""
    first = 1 if floor else 0

    def predict(theta: np.ndarray, z: Variables) -> np.ndarray:
        out: np.ndarray = _column(theta, first) * np.exp(-_column(theta, first + 1) * z.get(variable))
        return out + _column(theta, 0) if floor else out

    def columns(cell: np.ndarray, z: Variables, level: np.ndarray) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
        power = np.exp(-cell[0] * z.get(variable))
        return ([np.ones_like(level), power] if floor else [power]), level, 1 / level

    return Form(
        name=f"kaplan-{variable}" + ("-floor" if floor else ""),
        formula=("E + " if floor else "") + f"({symbol}_c/{symbol})^alpha_{symbol}",
        parameters=(("E",) if floor else ()) + (f"{symbol}_c", f"alpha_{symbol}"),
        needs=(variable,),
        terms=(Power(variable, first, first + 1, scale=True),),
        linear=tuple(range(first + 1)),
        low=(0.0,) * (first + 1) + EXPONENTS[:1],
        high=(math.inf,) * (first + 1) + EXPONENTS[1:],
        cells=_FINE[:, None],
        predict=predict,
        columns=columns,
        floor=floor,
    )


def _sum_of_two(z: Variables, variables: tuple[str, str], powers: tuple[float, float]) -> list[np.ndarray]:
    return [np.exp(-power * z.get(name)) for name, power in zip(variables, powers, strict=True)]


def _kaplan_nd_predict(theta: np.ndarray, z: Variables) -> np.ndarray:
    alpha_n, alpha_d = _column(theta, 2), _column(theta, 3)
    inner = _column(theta, 0) * np.exp(-alpha_n / alpha_d * z.get("n")) + _column(theta, 1) * np.exp(-z.get("d"))
    return np.exp(alpha_d * np.log(inner))


def _kaplan_nd_columns(
    cell: np.ndarray, z: Variables, level: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    target = level ** (1 / cell[1])
    return _sum_of_two(z, ("n", "d"), (cell[0] / cell[1], 1.0)), target, cell[1] / target


def _kaplan_ns_predict(theta: np.ndarray, z: Variables) -> np.ndarray:
    size = _column(theta, 0) * np.exp(-_column(theta, 2) * z.get("n"))
    return np.asarray(size + _column(theta, 1) * np.exp(-_column(theta, 3) * z.get("s")))


def _kaplan_ns_columns(
    cell: np.ndarray, z: Variables, level: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    return _sum_of_two(z, ("n", "s"), (cell[0], cell[1])), level, 1 / level


def _chinchilla_predict(theta: np.ndarray, z: Variables) -> np.ndarray:
    size = _column(theta, 1) * np.exp(-_column(theta, 3) * z.get("n"))
    return np.asarray(_column(theta, 0) + size + _column(theta, 2) * np.exp(-_column(theta, 4) * z.get("d")))


def _chinchilla_columns(
    cell: np.ndarray, z: Variables, level: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    return [np.ones_like(level), *_sum_of_two(z, ("n", "d"), (cell[0], cell[1]))], level, 1 / level


def _skaling_predict(theta: np.ndarray, z: Variables) -> np.ndarray:
    inner = _column(theta, 1) * np.exp(-_column(theta, 3) * z.get("n"))
    inner = inner + _column(theta, 2) * np.exp(-_column(theta, 4) * z.get("d"))
    return np.asarray(_column(theta, 0) + np.exp(_column(theta, 5) * np.log(inner)))


def _skaling_columns(
    cell: np.ndarray, z: Variables, level: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    above = np.maximum(level - cell[0], 1e-6)
    target = above ** (1 / cell[3])
    return _sum_of_two(z, ("n", "d"), (cell[1], cell[2])), target, cell[3] * above / (level * target)


def _worth(log_amount: np.ndarray, log_unique: np.ndarray, decay: np.ndarray) -> np.ndarray:
    """Return log of U + U R (1 - exp(-(V/U - 1)/R)): what V repeated from U unique is worth (2305.16264, eq. 5)."""
    repeats = np.exp(log_amount - log_unique) - 1
    return log_unique + np.log(1 + decay * (1 - np.exp(-repeats / decay)))


def _constrained_predict(theta: np.ndarray, z: Variables) -> np.ndarray:
    e, a, b, alpha, beta = (_column(theta, i) for i in range(5))
    log_d, log_u, log_n = z.get("d"), z.get("u"), z.get("n")
    log_g = _log_g(a, b, alpha, beta)
    needed = log_g + beta / alpha * (log_u + log_g)  # log N that is compute-optimal for U tokens
    needed = np.where(needed.real < log_n, needed, log_n)
    size = _worth(log_n, needed, np.exp(_column(theta, 6)))
    data = _worth(log_d, np.minimum(log_d, log_u), np.exp(_column(theta, 5)))
    return np.asarray(e + a * np.exp(-alpha * size) + b * np.exp(-beta * data))


def _log_g(a: np.ndarray, b: np.ndarray, alpha: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Return the log of Hoffmann's G = (alpha A/(beta B))^(1/(alpha + beta))."""
    return np.asarray((np.log(alpha * a + 1e-300) - np.log(beta * b + 1e-300)) / (alpha + beta))


def _constrained_guess(theta: np.ndarray) -> np.ndarray:
    found = _log_g(theta[:, 1], theta[:, 2], theta[:, 3], theta[:, 4])
    return np.where((theta[:, 1] > 0) & (theta[:, 2] > 0), found, np.nan)


def _constrained_columns(
    cell: np.ndarray, z: Variables, level: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    log_n, log_u = z.get("n"), z.get("u")
    data = _worth(z.get("d"), np.minimum(z.get("d"), log_u), np.exp(cell[2]))
    needed = np.minimum(log_n, cell[4] + cell[1] / cell[0] * (log_u + cell[4]))
    size = _worth(log_n, needed, np.exp(cell[3]))
    return [np.ones_like(level), np.exp(-cell[0] * size), np.exp(-cell[1] * data)], level, 1 / level


def _cells(*axes: np.ndarray | tuple[float, ...]) -> np.ndarray:
    return np.array(list(product(*axes)))


_INF, (_E0, _E1) = math.inf, EXPONENTS
_TWO = (Power("n", 1, 3), Power("d", 2, 4))
_DECAY_CELLS = tuple(np.log([1.5, 6.0, 24.0]))

FORMS: MappingProxyType[str, Form] = MappingProxyType({form.name: form for form in (
    Form("chinchilla", "E + A N^-alpha + B D^-beta", ("E", "A", "B", "alpha", "beta"), ("n", "d"), _TWO, (0, 1, 2),
         (0, 0, 0, _E0, _E0), (_INF, _INF, _INF, _E1, _E1), _cells(_GRID, _GRID),
         _chinchilla_predict, _chinchilla_columns, floor=True),
    *(_power(variable, symbol, floor) for variable, symbol in (("n", "N"), ("d", "D"), ("c", "C"))
      for floor in (False, True)),
    Form("kaplan-nd", "[(N_c/N)^(alpha_N/alpha_D) + D_c/D]^alpha_D", ("N_c", "D_c", "alpha_N", "alpha_D"), ("n", "d"),
         (Power("n", 0, 2, scale=True), Power("d", 1, 3, scale=True)), (0, 1),
         (0, 0, _E0, _E0), (_INF, _INF, _E1, _E1), _cells(_FINE[::2], _FINE[::2]),
         _kaplan_nd_predict, _kaplan_nd_columns, outer=3),
    Form("kaplan-ns", "(N_c/N)^alpha_N + (S_c/S_min)^alpha_S", ("N_c", "S_c", "alpha_N", "alpha_S"), ("n", "s"),
         (Power("n", 0, 2, scale=True), Power("s", 1, 3, scale=True)), (0, 1),
         (0, 0, _E0, _E0), (_INF, _INF, _E1, _E1), _cells(_FINE[::2], _FINE[::2]),
         _kaplan_ns_predict, _kaplan_ns_columns),
    Form("skaling", "E + (A N^-alpha + B D^-beta)^kappa", ("E", "A", "B", "alpha", "beta", "kappa"), ("n", "d"), _TWO,
         (1, 2), (0, 0, 0, _E0, _E0, 0.02), (_INF, _INF, _INF, 2 * _E1, 2 * _E1, 20.0),
         _cells((0.0, 0.3, 0.6, 0.8), _COARSE, _COARSE, (0.3, 0.6, 1.0, 2.0)),
         _skaling_predict, _skaling_columns, floor=True, outer=5),
    Form("data-constrained", "E + A N'^-alpha + B D'^-beta, D' = U + U R_D (1 - e^-((D/U - 1)/R_D)), N' likewise",
         ("E", "A", "B", "alpha", "beta", "R_D", "R_N"), ("n", "d", "u"), _TWO, (0, 1, 2),
         (0, 0, 0, _E0, _E0, math.log(DECAYS[0]), math.log(DECAYS[0])),
         (_INF, _INF, _INF, _E1, _E1, math.log(DECAYS[1]), math.log(DECAYS[1])),
         _cells(_COARSE[::2], _COARSE[::2], _DECAY_CELLS, _DECAY_CELLS, (-3.0, -1.5, 0.0, 1.5, 1e3)),
         _constrained_predict, _constrained_columns, floor=True, logarithmic=(5, 6), guessed=_constrained_guess),
)})  # fmt: skip
"""Name of a form -> form."""


def form_named(name: str) -> Form:
    """Return a form; raise UsageFault listing the names for an unknown one."""
    if name not in FORMS:
        raise UsageFault(f"no law {name!r} to fit; there are {', '.join(FORMS)} and auto")
    return FORMS[name]
