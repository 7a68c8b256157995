"""How sure a fit is: a bootstrap over runs. Branches of one trunk share their early training, so they go together.

Resamples are drawn with a fixed seed (PCG64), so the same observations and seed give the same intervals.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gpt2cli.scaling.diagnosis import levels
from gpt2cli.scaling.fit import DEFAULT_DELTA
from gpt2cli.scaling.fitted_law import Setting, law_losses
from gpt2cli.scaling.form_fit import resample_form
from gpt2cli.scaling.forms import FORMS, Form, Variables

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
    law: str = "chinchilla"
    setting: Setting = field(default_factory=Setting)

    def losses(self, n: Any, d: Any) -> np.ndarray:
        """Return the losses of every resample at `n` and `d`: (R, M) for arrays of (M,) or (R, M), (R, 1) for numbers.

        This is what optimum.search takes.
        """
        return law_losses(self.law, self.parameters, n, d, self.setting)

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
    """Refit Chinchilla's form to `resamples` draws of whole clusters with replacement; see bootstrap_form.

    `n`, `d`, `loss` are (M,), `clusters` (M,) integer labels, `start` (5,) the point fit.
    """
    variables = Variables(np.log(n), np.log(d))
    return bootstrap_form(
        FORMS["chinchilla"], variables, loss, clusters, start, resamples=resamples, seed=seed, delta=delta
    )


def bootstrap_form(
    form: Form,
    variables: Variables,
    loss: np.ndarray,
    clusters: np.ndarray,
    start: np.ndarray,
    *,
    resamples: int,
    seed: int,
    delta: float = DEFAULT_DELTA,
    setting: Setting | None = None,
) -> Bootstrap:
    """Refit any form to `resamples` draws of whole clusters with replacement.

    Draws with fewer distinct observations than parameters, or fewer than three distinct values of a variable (of N and
    D, or of what the form has instead), carry no fit and are dropped and counted.
    """
    weights = cluster_counts(clusters, resamples, seed)
    axes = [levels(np.exp(variables.get(name))) for name in form.needs if name != "u"]
    usable = _usable(weights > 0, axes, len(form.parameters))
    fitted = np.empty((0, len(form.parameters)))
    if usable.any():
        fitted = resample_form(form, variables, loss, weights[usable], start, delta)
    return Bootstrap(fitted, resamples, np.unique(clusters).size, seed, LEVEL, form.name, setting or Setting())


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


def _usable(present: np.ndarray, axes: list[np.ndarray], parameters: int) -> np.ndarray:
    enough: np.ndarray = present.sum(axis=1) >= parameters
    for level in axes:
        met = np.stack([present[:, level == value].any(axis=1) for value in range(level.max() + 1)])
        enough &= met.sum(axis=0) >= 3
    return enough
