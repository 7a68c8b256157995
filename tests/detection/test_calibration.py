"""Platt scaling against scikit-learn, conformal limits against brute force and simulation, and calibration error."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from gpt2cli.detection.calibration import (
    Platt,
    calibration_error,
    fit_platt,
    generated_limit,
    human_limit,
    p_value,
)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(3)


@pytest.mark.parametrize(("n_human", "n_generated", "scale"), [(40, 60, 1.0), (300, 30, 1e-4), (25, 25, 1e5)])
def test_platt_is_a_logistic_regression_on_smoothed_targets(n_human: int, n_generated: int, scale: float,
                                                            random: np.random.Generator) -> None:
    human, generated = scale * random.normal(0, 1, n_human), scale * random.normal(1, 1.5, n_generated)
    ours = fit_platt(human, generated)
    scores = np.concatenate([human, generated])
    targets = np.repeat([1 / (n_human + 2), (n_generated + 1) / (n_generated + 2)], [n_human, n_generated])
    balance = np.repeat([1 / n_human, 1 / n_generated], [n_human, n_generated])
    theirs = LogisticRegression(C=1e12, tol=1e-10, max_iter=10_000).fit(
        np.concatenate([scores, scores])[:, None] / scale, np.repeat([1, 0], len(scores)),
        np.concatenate([targets * balance, (1 - targets) * balance]) * 1000)
    grid = np.linspace(-3, 3, 50) * scale
    assert np.abs(ours.probability(grid) - theirs.predict_proba(grid[:, None] / scale)[:, 1]).max() < 1e-4


def test_platt_bears_perfect_separation_and_equal_scores_and_never_turns_around() -> None:
    apart = fit_platt(np.arange(50.0), np.arange(50.0) + 1000)
    assert apart.probability(np.array([0.0, 1049.0])) == pytest.approx([1 / 52, 51 / 52], abs=0.02)
    assert fit_platt(np.ones(5), np.ones(7)).probability(np.array([1.0])) == pytest.approx([0.5])
    assert fit_platt(np.arange(9.0) + 5, np.arange(9.0)) == Platt(0.0, 0.0)


def test_prevalence_is_bayes_rule() -> None:
    platt, score = Platt(2.0, -1.0), np.array([0.9])
    even = float(platt.probability(score)[0])
    rare = float(platt.probability(score, 0.01)[0])
    assert rare == pytest.approx(even * 0.01 / (even * 0.01 + (1 - even) * 0.99))


def test_the_limit_is_the_smallest_that_the_p_value_allows(random: np.random.Generator) -> None:
    human = random.normal(0, 1, 57)
    for rate in (0.5, 0.25, 0.1, 0.02):
        limit = human_limit(human, rate)
        assert limit is not None
        assert p_value(np.nextafter(limit, np.inf), human) <= rate < p_value(limit, human)
    assert human_limit(human, 1 / 59) is None and human_limit(human, 1 / 58) == human.max()
    assert generated_limit(human, 1 / 58) == human.min() and generated_limit(human, 1 / 59) is None


@pytest.mark.parametrize("rate", [0.1, 0.01])
def test_new_human_texts_are_flagged_no_more_often_than_promised(rate: float, random: np.random.Generator) -> None:
    shares = []
    for _ in range(400):
        limit = human_limit(random.gamma(2, 1, 150), rate)
        assert limit is not None
        shares.append((random.gamma(2, 1, 200) > limit).mean())
    assert rate / 3 < np.mean(shares) <= rate + 3 * np.std(shares) / np.sqrt(400)


def test_calibration_error_by_hand() -> None:
    probabilities, labels = np.array([0.1, 0.2, 0.9, 0.8, 0.8]), np.array([0, 0, 0, 1, 1])
    error, table = calibration_error(probabilities, labels, bins=2)
    # weights: human 1/6 each, generated 1/4 each
    low, high = 1 / 3, 1 / 6 + 1 / 2
    mean_high, share_high = (0.9 / 6 + 0.8 / 2) / high, 0.5 / high
    assert error == pytest.approx(low * 0.15 + high * abs(mean_high - share_high))
    assert [(row["n"], row["low"]) for row in table] == [(2, 0.0), (3, 0.5)]
    assert table[1]["generated"] == pytest.approx(share_high)
    assert calibration_error(np.array([1.0, 0.0]), np.array([1, 0]))[0] == 0
