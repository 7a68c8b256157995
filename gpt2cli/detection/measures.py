"""Accuracy and AUC with 95 % intervals.

AUC: DeLong et al. (1988) on the logit scale; where that has no width (AUC 0 or 1) Newcombe's (2006) method 5, which
has. Proportions: Wilson (1927). Accuracy is the mean of the two rates of being right, so it does not depend on how many
texts of each kind there are; its interval puts their Wilson intervals together by Newcombe's (1998) square and add.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Z = 1.959963984540054
"""The normal quantile of a two-sided 95 % interval."""


@dataclass(frozen=True)
class Estimate:
    """A value with the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def interval(self) -> list[float]:
        """Both ends."""
        return [self.low, self.high]


def proportion(successes: int, n: int) -> Estimate:
    """Return successes / n with Wilson's interval; n is at least 1."""
    share, z2 = successes / n, Z * Z
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return Estimate(share, max(0.0, centre - half) if successes else 0.0,
                    min(1.0, centre + half) if successes < n else 1.0)


def balanced_accuracy(right_human: Estimate, right_generated: Estimate) -> Estimate:
    """Return the mean of two rates with its interval."""
    a, b = right_human, right_generated
    value = (a.value + b.value) / 2
    return Estimate(value, value - math.hypot(a.value - a.low, b.value - b.low) / 2,
                    value + math.hypot(a.high - a.value, b.high - b.value) / 2)


def auc(human: np.ndarray, generated: np.ndarray) -> Estimate:
    """Return the probability that a generated text scores above a human one (ties count half), with its interval."""
    m, n = len(generated), len(human)
    order, merged = np.sort(human), np.sort(generated)
    of_generated = (np.searchsorted(order, generated, "left") + np.searchsorted(order, generated, "right")) / (2 * n)
    of_human = 1 - (np.searchsorted(merged, human, "left") + np.searchsorted(merged, human, "right")) / (2 * m)
    value = float(of_generated.mean())
    variance = delong_variance(of_generated, of_human)
    if not 0 < value < 1 or variance <= 0:
        return Estimate(value, *_newcombe(value, m, n))
    logit, half = math.log(value / (1 - value)), Z * math.sqrt(variance) / (value * (1 - value))
    return Estimate(value, _expit(logit - half), _expit(logit + half))


def delong_variance(of_generated: np.ndarray, of_human: np.ndarray) -> float:
    """Return the variance of the AUC by the placements of each side's scores among the other's."""
    if min(len(of_generated), len(of_human)) < 2:
        return 0.0
    return float(of_generated.var(ddof=1) / len(of_generated) + of_human.var(ddof=1) / len(of_human))


def _expit(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def _newcombe(value: float, m: int, n: int) -> tuple[float, float]:
    def gap(theta: float) -> float:
        star = (m + n) / 2 - 1
        variance = theta * (1 - theta) * (1 + star * (1 - theta) / (2 - theta) + star * theta / (1 + theta)) / (m * n)
        return abs(theta - value) - Z * math.sqrt(max(0.0, variance))

    def edge(inside: float, outside: float) -> float:
        for _ in range(100):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if gap(middle) <= 0 else (inside, middle)
        return inside

    return edge(value, 0.0) if value > 0 else 0.0, edge(value, 1.0) if value < 1 else 1.0
