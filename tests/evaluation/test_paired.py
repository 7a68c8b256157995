"""Paired statistics against known values: scipy's tests, closed forms, and coverage on pairs made by the thousand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from gpt2cli.errors import Interrupted
from gpt2cli.evaluation.paired import Resampling, corpus_difference, even_split_p, mcnemar, ratio_difference
from gpt2cli.reporter import Silent


def column(*ones_and_zeros: tuple[int, int]) -> np.ndarray:
    return np.concatenate([np.full(count, value, dtype=float) for value, count in ones_and_zeros])


def test_mcnemar_of_agrestis_approval_ratings() -> None:
    """Agresti, Categorical Data Analysis, table 10.1: 794 and 570 agree, 150 and 86 changed their minds."""
    a, b = column((1, 794), (1, 150), (0, 86), (0, 570)), column((1, 794), (0, 150), (1, 86), (0, 570))
    found = mcnemar(a, b)
    assert (found.only_a, found.only_b, found.both, found.neither) == (150, 86, 794, 570)
    assert found.p_value == pytest.approx(stats.binomtest(86, 236, 0.5).pvalue, rel=1e-12)
    assert found.p_value == pytest.approx(3.716e-05, rel=1e-3)
    assert mcnemar(b, a).p_value == found.p_value


@pytest.mark.parametrize(("least", "n"), [(0, 0), (0, 1), (0, 5), (1, 6), (3, 6), (2, 5), (10, 40), (480, 1000),
                                          (49_800, 100_000), (0, 60), (3, 3000)])
def test_even_split_is_scipys_exact_binomial(least: int, n: int) -> None:
    wanted = stats.binomtest(least, n, 0.5).pvalue if n else 1.0
    assert even_split_p(least, n) == pytest.approx(wanted, rel=1e-8, abs=1e-300)


def test_standard_error_is_that_of_the_paired_t_test() -> None:
    random = np.random.default_rng(3)
    a, b = random.normal(size=57), random.normal(size=57)
    found = ratio_difference(a, b, np.ones(57), Resampling(10), Silent())
    test = stats.ttest_rel(b, a)
    assert found.difference / found.stderr == pytest.approx(test.statistic, rel=1e-12)
    assert (found.a, found.b) == (pytest.approx(a.mean()), pytest.approx(b.mean()))


def test_a_ratio_is_weighed_by_units() -> None:
    """Against the jackknife, which needs no formula for the variance of a ratio."""
    random = np.random.default_rng(4)
    units = random.integers(20, 400, 300).astype(float)
    a = units * random.normal(3.0, 0.2, 300)
    b = a + units * random.normal(-0.05, 0.1, 300)
    found = ratio_difference(a, b, units, Resampling(4000), Silent())
    assert found.difference == pytest.approx(b.sum() / units.sum() - a.sum() / units.sum(), rel=1e-12)
    left_out = ((b - a).sum() - (b - a)) / (units.sum() - units)
    jackknife = math.sqrt(299 / 300 * ((left_out - left_out.mean()) ** 2).sum())
    assert found.stderr == pytest.approx(jackknife, rel=0.02)
    assert found.interval == pytest.approx((found.difference - 1.96 * jackknife, found.difference + 1.96 * jackknife),
                                           abs=0.3 * jackknife)


def test_intervals_cover_the_true_difference_as_often_as_they_say() -> None:
    """Of 600 experiments with a known difference about 90 % hold it: accuracies that go together, and skewed nats."""
    random, covered = np.random.default_rng(5), {"acc": 0, "nats": 0}
    trials, n = 600, 120
    for trial in range(trials):
        hard = random.random(n)
        a, b = ((hard < skill + random.normal(0, 0.1, n)).astype(float) for skill in (0.5, 0.6))
        units = random.integers(10, 100, n).astype(float)
        nats = units * random.exponential(0.2, n)
        for name, pair, true in (("acc", (a, b, np.ones(n)), 0.1), ("nats", (np.zeros(n), nats, units), 0.2)):
            low, high = ratio_difference(*pair, Resampling(400, trial, 0.9), Silent()).interval or (0, 0)
            covered[name] += low <= true <= high
    # three standard deviations of a count at 0.9 are 22 of 600; percentiles of skewed sums cover a little less
    assert 0.9 * trials - 30 < covered["acc"] < 0.9 * trials + 25, covered
    assert 0.9 * trials - 40 < covered["nats"] < 0.9 * trials + 25, covered


def test_a_pair_is_drawn_together() -> None:
    """What is common to both cancels: the interval is as narrow as if the common part were not there."""
    random = np.random.default_rng(6)
    common, gain = random.normal(0, 50, 200), random.normal(1, 0.5, 200)
    found = ratio_difference(common, common + gain, np.ones(200), Resampling(2000), Silent())
    alone = ratio_difference(np.zeros(200), gain, np.ones(200), Resampling(2000), Silent())
    assert found.interval == pytest.approx(alone.interval, rel=1e-9)
    assert found.interval[1] - found.interval[0] < 0.2


def test_exchanged_sides_mirror_everything_and_equal_seeds_repeat_it() -> None:
    random = np.random.default_rng(7)
    a, b, units = random.random(90), random.random(90), random.integers(1, 9, 90).astype(float)
    there = ratio_difference(a, b, units, Resampling(500, 11), Silent())
    back = ratio_difference(b, a, units, Resampling(500, 11), Silent())
    assert there == ratio_difference(a, b, units, Resampling(500, 11), Silent())
    assert there.interval != ratio_difference(a, b, units, Resampling(500, 12), Silent()).interval
    assert (there.difference, there.stderr) == (pytest.approx(-back.difference), pytest.approx(back.stderr))
    assert there.interval == pytest.approx((-back.interval[1], -back.interval[0]))


def test_more_resamples_than_are_drawn_together_agree_with_the_t_interval() -> None:
    random = np.random.default_rng(8)
    gain = random.normal(0.3, 1, 4000)
    found = ratio_difference(np.zeros(4000), gain, np.ones(4000), Resampling(1500), Silent())
    assert found.interval == pytest.approx(stats.t.interval(0.95, 3999, gain.mean(), stats.sem(gain)), abs=0.005)


def test_a_single_pair_has_no_error_and_no_interval() -> None:
    found = ratio_difference(np.array([1.0]), np.array([2.0]), np.array([4.0]), Resampling(100), Silent())
    assert (found.difference, found.stderr, found.interval, found.n_pairs) == (0.25, None, None, 1)
    assert corpus_difference([1], [2], sum, Resampling(100), Silent()).stderr is None
    two = ratio_difference(np.zeros(2), np.ones(2), np.ones(2), Resampling(0), Silent())
    assert (two.stderr, two.interval) == (0.0, None)


def test_a_corpus_measure_that_is_a_mean_agrees_with_the_mean() -> None:
    random = np.random.default_rng(9)
    a, b = random.random(80), random.random(80)
    mean = ratio_difference(a, b, np.ones(80), Resampling(1000), Silent())
    whole = corpus_difference(a.tolist(), b.tolist(), lambda values: math.fsum(values) / len(values),
                              Resampling(1000), Silent())
    assert whole.difference == pytest.approx(mean.difference) and whole.interval == pytest.approx(mean.interval)
    assert whole.stderr == pytest.approx(mean.stderr, rel=0.1)


def test_a_signal_stops_the_resampling() -> None:
    class Stopping(Silent):
        def stopping(self) -> bool:
            return True

    with pytest.raises(Interrupted):
        ratio_difference(np.zeros(9), np.ones(9), np.ones(9), Resampling(9), Stopping())
