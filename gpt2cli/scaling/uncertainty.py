"""How sure a fit is: a bootstrap over runs. Branches of one trunk share their early training, so they go together.

Resamples are drawn with a fixed seed (PCG64), so the same observations and seed give the same intervals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpt2cli.scaling.diagnosis import levels
from gpt2cli.scaling.fit import DEFAULT_DELTA, fit_resamples

LEVEL = 0.95
"""Nominal share of the percentile intervals."""
FEW_CLUSTERS = 10


@dataclass(frozen=True)
class Bootstrap:
    """Resampled parameters (R, 5) of R usable resamples out of `drawn`, from `clusters` independent runs."""

    parameters: np.ndarray
    drawn: int
    clusters: int
    seed: int
    level: float = LEVEL

    @property
    def degenerate(self) -> int:
        """How many resamples were left out because they could not carry five parameters."""
        return self.drawn - len(self.parameters)

    def interval(self, values: np.ndarray) -> tuple[float, float] | None:
        """Return the percentile interval of `values` (R,), one per resample; None without resamples."""
        if not len(values):
            return None
        tail = 50 * (1 - self.level)
        low, high = np.percentile(values, [tail, 100 - tail], method="inverted_cdf")
        return float(low), float(high)


def bootstrap(
    n: np.ndarray,
    d: np.ndarray,
    loss: np.ndarray,
    clusters: np.ndarray,
    start: np.ndarray,
    *,
    resamples: int,
    seed: int,
    delta: float = DEFAULT_DELTA,
) -> Bootstrap:
    """Refit `resamples` draws of whole clusters with replacement.

    `n`, `d`, `loss` are (M,), `clusters` (M,) integer labels, `start` (5,) the point fit. Draws with fewer than five
    distinct observations or fewer than three distinct N or D carry no fit and are dropped and counted.
    """
    weights = cluster_counts(clusters, resamples, seed)
    usable = _usable(weights > 0, levels(n), levels(d))
    fitted = fit_resamples(n, d, loss, weights[usable], start, delta) if usable.any() else np.empty((0, 5))
    return Bootstrap(fitted, resamples, np.unique(clusters).size, seed)


def cluster_counts(clusters: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Return how often each observation counts in each draw of whole clusters with replacement, (resamples, M).

    `clusters` (M,) are labels; the same seed gives the same draws, so methods are compared on equal resamples.
    """
    labels, member = np.unique(clusters, return_inverse=True)
    generator = np.random.Generator(np.random.PCG64(seed))
    draws = generator.integers(0, labels.size, size=(resamples, labels.size))
    counts = np.zeros((resamples, labels.size))
    np.add.at(counts, (np.arange(resamples)[:, None], draws), 1.0)
    return counts[:, member]


def _usable(present: np.ndarray, n_levels: np.ndarray, d_levels: np.ndarray) -> np.ndarray:
    enough = present.sum(axis=1) >= 5
    for level in (n_levels, d_levels):
        met = np.stack([present[:, level == value].any(axis=1) for value in range(level.max() + 1)])
        enough &= met.sum(axis=0) >= 3
    return enough
