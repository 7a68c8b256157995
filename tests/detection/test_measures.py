"""AUC, rates and their intervals against scikit-learn, scipy, brute force and simulated coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, norm
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from gpt2cli.detection.measures import auc, balanced_accuracy, delong_variance, proportion


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.mark.parametrize("decimals", [0, 1, 9])
def test_auc_is_scikit_learns_and_brute_forces(decimals: int, random: np.random.Generator) -> None:
    human, generated = random.normal(0, 1, 40).round(decimals), random.normal(0.8, 2, 23).round(decimals)
    found = auc(human, generated)
    pairs = [(g > h) + 0.5 * (g == h) for g in generated for h in human]
    assert found.value == pytest.approx(np.mean(pairs))
    assert found.value == pytest.approx(roc_auc_score([0] * 40 + [1] * 23, np.concatenate([human, generated])))
    assert 0 < found.low < found.value < found.high < 1


def test_delong_variance_is_the_formula_of_the_paper(random: np.random.Generator) -> None:
    human, generated = random.normal(0, 1, 12), random.normal(1, 1, 9)
    psi = (generated[:, None] > human[None, :]) + 0.5 * (generated[:, None] == human[None, :])
    v10, v01, theta = psi.mean(1), psi.mean(0), psi.mean()
    s10, s01 = ((v10 - theta) ** 2).sum() / 8, ((v01 - theta) ** 2).sum() / 11
    assert delong_variance(v10, v01) == pytest.approx(s10 / 9 + s01 / 12)
    logit = np.log(theta / (1 - theta))
    half = 1.959964 * np.sqrt(s10 / 9 + s01 / 12) / (theta * (1 - theta))
    assert auc(human, generated).interval == pytest.approx(1 / (1 + np.exp(-(logit + np.array([-half, half])))))


@pytest.mark.parametrize("shift", [0.3, 1.5])
def test_ninety_five_percent_of_intervals_hold_the_true_auc(shift: float, random: np.random.Generator) -> None:
    truth, held = norm.cdf(shift / np.sqrt(2)), 0
    for _ in range(600):
        found = auc(random.normal(0, 1, 60), random.normal(shift, 1, 50))
        held += found.low <= truth <= found.high
    assert 0.92 <= held / 600 <= 0.985


def test_perfect_separation_is_no_certainty() -> None:
    some, many = auc(np.arange(20.0), np.arange(20.0) + 100), auc(np.arange(2000.0), np.arange(2000.0) + 1e4)
    assert some.value == many.value == some.high == many.high == 1
    assert 0.8 < some.low < many.low < 1
    none = auc(np.arange(20.0) + 100, np.arange(20.0))
    assert none.value == none.low == 0
    assert none.high == pytest.approx(1 - some.low)


@pytest.mark.parametrize(("k", "n"), [(0, 10), (10, 10), (3, 10), (970, 1000), (1, 1)])
def test_wilson_is_scipys(k: int, n: int) -> None:
    theirs = binomtest(k, n).proportion_ci(method="wilson")
    assert proportion(k, n).interval == pytest.approx([theirs.low, theirs.high], abs=1e-12)


def test_balanced_accuracy_is_scikit_learns_and_its_interval_covers(random: np.random.Generator) -> None:
    truth = np.array([0] * 30 + [1] * 10)
    said = np.array([0] * 24 + [1] * 6 + [1] * 9 + [0])
    found = balanced_accuracy(proportion(24, 30), proportion(9, 10))
    assert found.value == pytest.approx(balanced_accuracy_score(truth, said))
    held = 0
    for _ in range(1000):
        one = balanced_accuracy(proportion(int(random.binomial(80, 0.95)), 80),
                                proportion(int(random.binomial(60, 0.7)), 60))
        held += one.low <= 0.825 <= one.high
    assert 0.93 <= held / 1000 <= 0.985
    certain = balanced_accuracy(proportion(50, 50), proportion(50, 50))
    assert certain.value == certain.high == 1 and 0.9 < certain.low < 1
