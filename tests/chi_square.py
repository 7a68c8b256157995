"""Pearson's chi-square statistic, and a bound on it that chance passes once in a million."""

from __future__ import annotations

import math

import numpy as np


def chi_square(counts: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the statistic of `counts` [k] against `probabilities` [k]; k - 1 degrees of freedom."""
    expected = probabilities * counts.sum()
    return float(((counts - expected) ** 2 / expected).sum())


def critical(freedom: int) -> float:
    """Return the value that chi-square passes once in a million (Wilson and Hilferty's approximation)."""
    return freedom * (1 - 2 / (9 * freedom) + 4.7534 * math.sqrt(2 / (9 * freedom))) ** 3
