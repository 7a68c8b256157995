"""Scores to probabilities and verdicts, by texts that the detector was not fitted on.

Probabilities: Platt (1999) scaling with his smoothed targets, both kinds of text weighing the same, so that they hold
where as many texts are generated as not; another share moves the log-odds (`at_prevalence`).
Verdicts: split conformal (Vovk et al. 2005): of m human scores, a text like them is above the
ceil((m + 1)(1 - F))-th smallest with a probability of at most F, whatever their distribution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

_STEPS = 100


@dataclass(frozen=True)
class Platt:
    """P(generated | score) = 1 / (1 + exp(-(slope * score + offset))). The slope is never negative."""

    slope: float
    offset: float

    def probability(self, scores: np.ndarray, prevalence: float = 0.5) -> np.ndarray:
        """Return the probability that each text was generated where a share `prevalence` of texts is."""
        log_odds = self.slope * scores + self.offset + math.log(prevalence / (1 - prevalence))
        return np.exp(-np.logaddexp(0.0, -log_odds))


def fit_platt(human: np.ndarray, generated: np.ndarray) -> Platt:
    """Fit by Newton's method on scores of human and generated texts, of which there must be one each.

    Scores that say the contrary (a slope below 0) give slope 0: every probability is a half.
    """
    scores = np.concatenate([human, generated])
    n = np.array([len(human), len(generated)])
    targets = np.repeat([1 / (n[0] + 2), (n[1] + 1) / (n[1] + 2)], n)
    weights = np.repeat(len(scores) / (2 * n), n)
    centre, scale = float(scores.mean()), float(scores.std()) or 1.0
    x = np.stack([(scores - centre) / scale, np.ones_like(scores)])
    beta = np.zeros(2)
    loss = _loss(beta, x, targets, weights)
    for _ in range(_STEPS):
        p = np.exp(-np.logaddexp(0.0, -(beta @ x)))
        gradient = x @ (weights * (p - targets))
        hessian = (x * (weights * p * (1 - p))) @ x.T + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        rate = 1.0
        while (found := _loss(beta - rate * step, x, targets, weights)) > loss and rate > 1e-10:
            rate /= 2
        beta, last, loss = beta - rate * step, loss, min(loss, found)
        if last - loss < 1e-14 * max(1.0, loss):
            break
    slope = float(beta[0]) / scale
    return Platt(slope, float(beta[1]) - slope * centre) if slope > 0 else Platt(0.0, 0.0)


def _loss(beta: np.ndarray, x: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> float:
    z = beta @ x
    return float(weights @ (np.logaddexp(0.0, z) - targets * z))


def human_limit(human: np.ndarray, rate: float) -> float | None:
    """Return the score that a human text exceeds with a probability of at most `rate`, by human scores.

    None when they are too few to tell: below 1 / rate - 1.
    """
    rank = math.ceil((len(human) + 1) * (1 - rate) - 1e-9)
    return float(np.sort(human)[rank - 1]) if 1 <= rank <= len(human) else None


def generated_limit(generated: np.ndarray, rate: float) -> float | None:
    """Return the score that a generated text falls below with a probability of at most `rate`; None: too few."""
    limit = human_limit(-generated, rate)
    return None if limit is None else -limit


def p_value(score: float, human: np.ndarray) -> float:
    """Return the conformal p-value of "a person wrote this": how rarely a human text has this score or a higher one."""
    return (1 + int((human >= score).sum())) / (len(human) + 1)


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 10
                      ) -> tuple[float, list[dict[str, float | int]]]:
    """Return the expected calibration error, and of each equally wide bin of probability that has texts what it holds.

    Both kinds weigh the same. A bin: low, high, n, mean probability, share that is generated.
    """
    n_generated = int(labels.sum())
    weights = np.where(labels == 1, 0.5 / max(1, n_generated), 0.5 / max(1, len(labels) - n_generated))
    places = np.minimum((probabilities * bins).astype(int), bins - 1)
    error, table = 0.0, list[dict[str, float | int]]()
    for place in range(bins):
        inside = places == place
        weight = float(weights[inside].sum())
        if not weight:
            continue
        mean = float(weights[inside] @ probabilities[inside]) / weight
        share = float(weights[inside] @ labels[inside]) / weight
        error += weight * abs(mean - share)
        table.append({"low": place / bins, "high": (place + 1) / bins, "n": int(inside.sum()),
                      "mean_probability": mean, "generated": share})
    return error, table
