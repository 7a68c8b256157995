"""Statistics of pairs: the difference of two means over the same units, its error and interval, McNemar's test.

A difference is always the second less the first. Pairs are drawn together, so what makes a unit hard for both cancels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpt2cli.errors import Interrupted
from gpt2cli.reporter import Reporter

_DRAWN_TOGETHER = 1 << 20


@dataclass(frozen=True)
class Resampling:
    """A bootstrap: how many resamples (0: none), from which seed, and the nominal share of its interval."""

    resamples: int = 10_000
    seed: int = 0
    level: float = 0.95

    def as_fields(self) -> dict[str, Any]:
        """Return the `bootstrap` field of a record."""
        return {"method": "percentiles over resampled pairs", "resamples": self.resamples, "seed": self.seed,
                "level": self.level}


@dataclass(frozen=True)
class Difference:
    """Two measures of the same units, b less a; stderr and interval are None for a single pair."""

    a: float
    b: float
    difference: float
    stderr: float | None
    interval: tuple[float, float] | None
    n_pairs: int


@dataclass(frozen=True)
class McNemar:
    """Which of two were right on how many units, and the exact two-sided p of an even split of the discordant ones.

    only_a and only_b are the b and c of textbooks.
    """

    only_a: int
    only_b: int
    both: int
    neither: int
    p_value: float


def ratio_difference(a: np.ndarray, b: np.ndarray, units: np.ndarray, drawing: Resampling, reporter: Reporter
                     ) -> Difference:
    """Return the difference of sum(b) / sum(units) and sum(a) / sum(units); all (n,) with n > 0 and sum(units) > 0.

    Units of 1 make it a difference of means. The standard error is the delta method's for a ratio of sums over n
    independent pairs: var = n / (n - 1) sum (d_i - D units_i)^2 / sum(units)^2, which for units of 1 is the sample
    standard deviation of the differences over root n.
    """
    n, total, differences = len(a), math.fsum(units), b - a
    found = math.fsum(differences) / total
    stderr = None
    if n > 1:
        residuals = differences - found * units
        stderr = math.sqrt(math.fsum(residuals * residuals) * n / (n - 1)) / total

    def measure(chosen: np.ndarray) -> np.ndarray:
        return differences[chosen].sum(axis=1) / units[chosen].sum(axis=1)

    return Difference(math.fsum(a) / total, math.fsum(b) / total, found, stderr,
                      _percentiles(_draws(n, measure, drawing, reporter), drawing), n)


def corpus_difference(a: Sequence[Any], b: Sequence[Any], measure: Callable[[Sequence[Any]], float],
                      drawing: Resampling, reporter: Reporter) -> Difference:
    """Return the difference of a measure of all values together that is no mean, such as F1 or BLEU (Koehn 2004).

    The standard error is the standard deviation of the resampled differences.
    """
    whole_a, whole_b, n = measure(a), measure(b), len(a)

    def resampled(chosen: np.ndarray) -> np.ndarray:
        return np.array([measure([b[i] for i in row]) - measure([a[i] for i in row]) for row in chosen.tolist()])

    draws = _draws(n, resampled, drawing, reporter)
    stderr = float(draws.std(ddof=1)) if len(draws) > 1 else None
    return Difference(whole_a, whole_b, whole_b - whole_a, stderr, _percentiles(draws, drawing), n)


def mcnemar(a: np.ndarray, b: np.ndarray) -> McNemar:
    """Return McNemar's exact test of two (n,) columns of 0 and 1 (McNemar 1947; the binomial form, not chi-square)."""
    right_a, right_b = a == 1, b == 1
    only_a, only_b = int((right_a & ~right_b).sum()), int((~right_a & right_b).sum())
    return McNemar(only_a, only_b, int((right_a & right_b).sum()), int((~right_a & ~right_b).sum()),
                   even_split_p(min(only_a, only_b), only_a + only_b))


def even_split_p(least: int, n: int) -> float:
    """Return min(1, 2 P(X <= least)) for X ~ binomial(n, 1/2)."""
    term = math.exp(math.lgamma(n + 1) - math.lgamma(least + 1) - math.lgamma(n - least + 1) - n * math.log(2))
    total = 0.0
    for k in range(least, -1, -1):
        total += term
        term *= k / (n - k + 1)
        if term <= total * 1e-17:
            break
    return min(1.0, 2 * total)


def _draws(n: int, measure: Callable[[np.ndarray], np.ndarray], drawing: Resampling, reporter: Reporter) -> np.ndarray:
    """Return `measure` of each resample's (rows, n) indices; none of them for a single pair."""
    if n < 2 or not drawing.resamples:
        return np.empty(0)
    random = np.random.Generator(np.random.PCG64(drawing.seed))
    rows = max(1, _DRAWN_TOGETHER // n)
    parts = []
    for start in range(0, drawing.resamples, rows):
        if reporter.stopping():
            raise Interrupted
        parts.append(measure(random.integers(0, n, (min(rows, drawing.resamples - start), n))))
        reporter.progress(start + len(parts[-1]), drawing.resamples, "resamples")
    return np.concatenate(parts)


def _percentiles(draws: np.ndarray, drawing: Resampling) -> tuple[float, float] | None:
    if not len(draws):
        return None
    tail = 50 * (1 - drawing.level)
    low, high = np.percentile(draws, [tail, 100 - tail])
    return float(low), float(high)
