"""How sure a measure of a set of documents is: standard errors and intervals, by bootstrap or by jackknife.

Documents are taken to be drawn independently. Measures that are functions of sums over documents (means, ratios,
perplexity, corpus BLEU) are bootstrapped: documents are drawn anew with replacement, the interval is the middle of the
resampled values (percentiles; Efron and Tibshirani 1993). Those that count different things in all documents together
(distinct-n, vocabulary, Zipf, self-BLEU) can't be: a resample holds documents twice, so its variety is too small.
They get the delete-one jackknife (Tukey 1958), which tends to be a little too wide (Efron and Stein 1981), and the
interval of a normal distribution, cut off at the ends of what the measure can be. A share of documents gets Wilson's
score interval (1927), because none out of a few is no proof that there are none.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import Any

import numpy as np

BOOTSTRAP, JACKKNIFE, WILSON = "bootstrap", "jackknife", "wilson"
Interval = tuple[float, float]
_BLOCK = 1 << 20
"""Drawn documents that are held at once."""
_ROUNDING = 1e-12
"""Of a value: a standard error below is no more than what float64 rounds away."""


@dataclass(frozen=True)
class Resampling:
    """resamples: how many; stream: which of several independent streams of the seed; level: of the intervals."""

    resamples: int = 1000
    seed: int = 0
    level: float = 0.95
    stream: int = 0

    def generator(self) -> np.random.Generator:
        """Return the stream's generator, at its beginning."""
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, self.stream])))


@dataclass(frozen=True)
class Estimate:
    """A measure's value over `n` documents that have one, and how sure it is; None: not defined, or not to be known.

    resampled_R: the bootstrap's values, kept for differences.
    """

    value: float | None
    stderr: float | None = None
    interval: Interval | None = None
    method: str | None = None
    n: int = 0
    resampled_R: np.ndarray | None = field(default=None, repr=False, compare=False)

    def as_fields(self) -> dict[str, Any]:
        """Return the JSON object of a record's measure."""
        return {"value": self.value, "stderr": self.stderr,
                "interval": None if self.interval is None else list(self.interval), "method": self.method,
                "n_documents": self.n}


def resampled_sums(columns_DK: np.ndarray, resampling: Resampling) -> np.ndarray:
    """Return the sums of each column over every resample of the rows, float64 [R, K]."""
    n, generator = len(columns_DK), resampling.generator()
    sums_RK = np.empty((resampling.resamples, columns_DK.shape[1]))
    step = max(1, _BLOCK // max(n, 1))
    for start in range(0, resampling.resamples, step):
        rows = min(step, resampling.resamples - start)
        drawn = generator.integers(0, n, (rows, n)) + np.arange(rows)[:, None] * n
        weights_RD = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)
        sums_RK[start : start + rows] = weights_RD.astype(np.float64) @ columns_DK
    return sums_RK


def of_sums(columns_DK: np.ndarray, defined_D: np.ndarray, measure: Callable[[np.ndarray], np.ndarray],
            resampling: Resampling) -> Estimate:
    """Return the estimate of a function of sums over documents, by bootstrap.

    columns_DK: what is summed. defined_D: bool, the documents that take part. measure: sums [R, K] -> values [R].
    """
    taken = np.asarray(columns_DK, dtype=np.float64)[defined_D]
    n = len(taken)
    if not n:
        return Estimate(None)
    sums = np.array([[math.fsum(column) for column in taken.T]])
    value = _finite(measure(sums)[0])
    if n < 2 or value is None:
        return Estimate(value, n=n)
    values_R = measure(resampled_sums(taken, resampling))
    if not np.isfinite(values_R).all():
        return Estimate(value, n=n)
    stderr = _no_noise(float(values_R.std(ddof=1)), value)
    return Estimate(value, stderr, _middle(values_R, resampling.level), BOOTSTRAP, n, values_R)


def ratio(numerators_D: np.ndarray, denominators_D: np.ndarray, resampling: Resampling,
          transform: Callable[[np.ndarray], np.ndarray] = lambda values: values) -> Estimate:
    """Return the estimate of (a function of) one sum over another; documents whose denominator is 0 take no part.

    With denominators of 1 and 0 this is the mean over the documents that have the measure.
    """
    return of_sums(np.stack([numerators_D, denominators_D], axis=1), np.asarray(denominators_D) > 0,
                   lambda sums: transform(sums[:, 0] / sums[:, 1]), resampling)


@dataclass(frozen=True)
class LeftOut:
    """A measure of a set, and without each of the documents in turn [n]; None where some of these are not defined."""

    value: float | None
    without_D: np.ndarray | None
    n: int


def of_left_out(found: LeftOut, level: float, low: float = -math.inf, high: float = math.inf) -> Estimate:
    """Return the estimate of a measure by the delete-one jackknife; low and high: the ends of what it can be."""
    if found.value is None or found.without_D is None or len(found.without_D) < 2:
        return Estimate(found.value, n=found.n)
    n = len(found.without_D)
    deviations = found.without_D - found.without_D.mean()
    stderr = _no_noise(math.sqrt((n - 1) / n * float(deviations @ deviations)), found.value)
    reach = _reach(level) * stderr
    return Estimate(found.value, stderr, (max(low, found.value - reach), min(high, found.value + reach)), JACKKNIFE,
                    found.n)


def share(has_D: np.ndarray, defined_D: np.ndarray, level: float) -> Estimate:
    """Return the estimate of the share of documents that have something, among those that could: bool [D] both.

    Wilson's score interval; the standard error is half of it in units of the normal distribution, never 0.
    """
    n, hits = int(defined_D.sum()), int((has_D & defined_D).sum())
    if n < 2:
        return Estimate(float(hits) if n else None, n=n)
    value, z = hits / n, _reach(level)
    middle = (value + z * z / (2 * n)) / (1 + z * z / n)
    stderr = math.sqrt(value * (1 - value) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    interval = (0.0 if not hits else middle - z * stderr, 1.0 if hits == n else middle + z * stderr)
    return Estimate(value, stderr, interval, WILSON, n)


def difference(a: Estimate, b: Estimate, level: float) -> Estimate:
    """Return a less b, of two sets drawn independently.

    Bootstrapped measures by both sets' resampled values; shares by Newcombe's hybrid of two Wilson intervals (1998);
    others by both standard errors and a normal distribution.
    """
    if a.value is None or b.value is None:
        return Estimate(None)
    value = a.value - b.value
    known = Estimate(value, n=a.n + b.n)
    if a.resampled_R is not None and b.resampled_R is not None:
        values_R = a.resampled_R - b.resampled_R
        stderr = _no_noise(float(values_R.std(ddof=1)), max(abs(a.value), abs(b.value)))
        return replace(known, stderr=stderr, interval=_middle(values_R, level), method=BOOTSTRAP)
    if a.stderr is None or b.stderr is None:
        return known
    stderr = math.hypot(a.stderr, b.stderr)
    if a.method == WILSON and a.interval and b.interval:
        low = value - math.hypot(a.value - a.interval[0], b.interval[1] - b.value)
        high = value + math.hypot(a.interval[1] - a.value, b.value - b.interval[0])
        return replace(known, stderr=stderr, interval=(low, high), method=WILSON)
    reach = _reach(level) * stderr
    return replace(known, stderr=stderr, interval=(value - reach, value + reach), method=JACKKNIFE)


def _reach(level: float) -> float:
    return NormalDist().inv_cdf((1 + level) / 2)


def _middle(values_R: np.ndarray, level: float) -> Interval:
    tail = (1 - level) / 2
    low, high = np.quantile(values_R, [tail, 1 - tail], method="inverted_cdf")
    return float(low), float(high)


def _no_noise(stderr: float, value: float) -> float:
    """Return 0 for a standard error that is nothing but rounding: documents that are all alike have none."""
    return stderr if stderr > _ROUNDING * abs(value) else 0.0


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
