"""Standard errors and intervals: against closed forms, scipy, plain loops, and what sets drawn anew really do."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from gpt2cli.quality import diversity
from gpt2cli.quality.likelihood import exponential
from gpt2cli.quality.ngrams import count_ngrams
from gpt2cli.quality.self_bleu import self_bleu
from gpt2cli.quality.uncertainty import (
    Estimate,
    LeftOut,
    Resampling,
    difference,
    of_left_out,
    of_sums,
    ratio,
    resampled_sums,
    share,
)
from gpt2cli.reporter import Silent


def test_resampled_sums_are_those_of_a_loop_whatever_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = np.random.default_rng(0).normal(size=(7, 2))
    generator = Resampling(50, 3).generator()
    expected = [columns[generator.integers(0, 7, 7)].sum(axis=0) for _ in range(50)]
    assert np.allclose(resampled_sums(columns, Resampling(50, 3)), expected)
    monkeypatch.setattr("gpt2cli.quality.uncertainty._BLOCK", 20)
    assert np.allclose(resampled_sums(columns, Resampling(50, 3)), expected)
    assert not np.allclose(resampled_sums(columns, Resampling(50, 3, stream=1)), expected)


def test_the_bootstrap_of_a_mean_agrees_with_its_closed_form_and_with_scipy() -> None:
    values = np.random.default_rng(1).gamma(2, size=200)
    found = ratio(values, np.ones(200), Resampling(4000))
    assert found.value == pytest.approx(values.mean()) and found.n == 200 and found.interval is not None
    assert found.stderr == pytest.approx(values.std(ddof=1) / math.sqrt(200), rel=0.05)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=2).confidence_interval
    assert found.interval == pytest.approx(tuple(theirs), abs=0.15 * found.stderr)


def test_documents_without_the_measure_take_no_part() -> None:
    found = ratio(np.array([1.0, 0, 3]), np.array([1.0, 0, 1]), Resampling(200))
    assert (found.value, found.n, found.interval) == (2, 2, (1, 3))
    assert ratio(np.zeros(2), np.zeros(2), Resampling(20)) == Estimate(None)
    assert ratio(np.ones(1), np.ones(1), Resampling(20)) == Estimate(1.0, n=1)
    assert ratio(np.zeros(0), np.zeros(0), Resampling(20)) == Estimate(None)


def test_a_measure_beyond_a_float_is_not_defined() -> None:
    assert ratio(np.full(3, 1e9), np.ones(3), Resampling(20), exponential) == Estimate(None, n=3)


def test_the_jackknife_of_a_mean_is_its_closed_form() -> None:
    values = np.random.default_rng(3).normal(5, size=30)
    found = of_left_out(LeftOut(values.mean(), (values.sum() - values) / 29, 30), 0.95)
    assert found.stderr == pytest.approx(values.std(ddof=1) / math.sqrt(30))
    expected = stats.norm.interval(0.95, values.mean(), values.std(ddof=1) / math.sqrt(30))
    assert found.interval == pytest.approx(tuple(expected))
    cut = of_left_out(LeftOut(values.mean(), (values.sum() - values) / 29, 30), 0.95, 4.99, values.mean())
    assert cut.interval == (4.99, values.mean())
    assert of_left_out(LeftOut(1.0, None, 1), 0.95) == Estimate(1.0, n=1)


@pytest.mark.parametrize("hits", [0, 1, 7, 20])
def test_a_share_has_wilsons_interval_and_a_difference_newcombes(hits: int) -> None:
    has = np.arange(24) < hits
    defined = np.arange(24) < 20
    found = share(has, defined, 0.9)
    theirs = stats.binomtest(hits, 20).proportion_ci(0.9, method="wilson")
    assert found.interval == pytest.approx((theirs.low, theirs.high)) and (found.value, found.n) == (hits / 20, 20)
    assert found.stderr is not None and found.stderr > 0
    low, high = difference(found, found, 0.9).interval or (0, 0)
    assert low == pytest.approx(-high)
    assert high == pytest.approx(math.hypot(theirs.high - hits / 20, hits / 20 - theirs.low))


def test_newcombes_interval_is_the_published_one() -> None:
    """Newcombe 1998, method 10, example (a): 56/70 less 48/80 is 0.2, 95 % from 0.0524 to 0.3339."""
    first = share(np.arange(70) < 56, np.ones(70, bool), 0.95)
    second = share(np.arange(80) < 48, np.ones(80, bool), 0.95)
    found = difference(first, second, 0.95)
    assert found.value == pytest.approx(0.2) and found.interval == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_a_difference_of_bootstraps_is_of_independent_draws() -> None:
    generator = np.random.default_rng(4)
    one, two = generator.normal(0, size=100), generator.normal(1, 2, size=50)
    found = difference(ratio(one, np.ones(100), Resampling(4000)),
                       ratio(two, np.ones(50), Resampling(4000, stream=1)), 0.95)
    expected = math.hypot(one.std(ddof=1) / 10, two.std(ddof=1) / math.sqrt(50))
    assert found.value == pytest.approx(one.mean() - two.mean()) and found.stderr == pytest.approx(expected, rel=0.05)
    alone = difference(Estimate(2.0, n=1), Estimate(1.0, 0.1, (0.8, 1.2), "jackknife", 9), 0.95)
    assert (alone.value, alone.stderr, alone.interval) == (1.0, None, None)
    assert difference(Estimate(None), Estimate(1.0), 0.95) == Estimate(None)


def test_sums_of_nothing_defined() -> None:
    assert of_sums(np.zeros((2, 1)), np.zeros(2, bool), lambda sums: sums[:, 0], Resampling(20)) == Estimate(None)


def test_jackknife_errors_are_as_large_as_what_sets_drawn_anew_do() -> None:
    """160 sets of 40 documents from one source: their measures' spread is what each set's own error says of it."""
    generator = np.random.default_rng(5)
    weights = 1 / np.arange(1, 301)
    weights /= weights.sum()
    found: dict[str, list[Estimate]] = {}
    for _ in range(160):
        # a document sticks to a topic, so documents differ by more than their words
        documents = [np.where(generator.random(30) < 0.3, generator.integers(300), generator.choice(300, 30, p=weights))
                     for _ in range(40)]
        orders = count_ngrams(documents)
        for name, measured in (("distinct", diversity.distinct(orders[0])),
                               ("at", diversity.distinct_at(orders[1], 500)),
                               ("zipf", diversity.zipf(orders[0], 100)),
                               ("self_bleu", self_bleu(orders, 10, 0, Silent()).mean)):
            found.setdefault(name, []).append(of_left_out(measured, 0.95))
    for name, estimates in found.items():
        values = np.array([estimate.value for estimate in estimates])
        covered = np.mean([low <= values.mean() <= high for low, high in (e.interval or (0, 0) for e in estimates)])
        claimed = np.mean([estimate.stderr for estimate in estimates])
        print(f"{name}: spread {values.std(ddof=1):.4g}, claimed {claimed:.4g}, covered {covered:.3f}")
        assert 0.85 < claimed / values.std(ddof=1) < 1.4, name
        assert covered > 0.9, name
