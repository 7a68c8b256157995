"""Fits of metrics against size and of losses against steps: exact data back, shapes found, too little refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.scaling.capabilities import Point, Series
from gpt2cli.scaling.capability_fit import default_form, fit_series
from gpt2cli.scaling.comparison import against_law, against_run, reached
from gpt2cli.scaling.curve_fit import fit_curve, shape_of
from gpt2cli.scaling.curves import Curve
from gpt2cli.scaling.laws import PUBLISHED
from gpt2cli.scaling.separable import Problem

SIZES = (1e7, 1e8, 1e9, 1e10, 1e11)


def series(values: list[float], stderr: float | None = None, metric: str = "acc") -> Series:
    return Series("arc, 0-shot", metric, [
        Point(n, value, stderr, f"n{n:.0e}", 20 * n, 120 * n * n) for n, value in zip(SIZES, values, strict=True)
    ])  # fmt: skip


def logistic(x: float, slope: float = 0.8, half: float = 3e9) -> float:
    return 0.25 + 0.75 / (1 + (x / half) ** -slope)


def evaluations(losses: np.ndarray, phase: str = "stable", run: str = "r") -> Curve:
    return Curve(run, 1e6, [], [
        {"step": 100 * (i + 1), "tokens": 1e5 * (i + 1), "flops": 6e11 * (i + 1), "lr_phase": phase,
         "nll_nats_per_token": float(loss)} for i, loss in enumerate(losses)
    ])  # fmt: skip


def test_logistic_is_found_exactly() -> None:
    found = fit_series(series([logistic(n) for n in SIZES]), "n", None, (0.25, 1.0), [3e9, 1e12], 50, 0)
    assert found.form == default_form("acc") == "logistic"
    assert found.parameters["slope"] == pytest.approx(0.8, rel=1e-6)
    assert found.parameters["x_half"] == pytest.approx(3e9, rel=1e-6)
    assert [one.value for one in found.answers] == pytest.approx([0.625, logistic(1e12)], rel=1e-6)
    assert found.warnings == ()


def test_intervals_follow_the_standard_errors_and_the_seed() -> None:
    random = np.random.default_rng(5)
    noisy = [logistic(n) + 0.02 * random.standard_normal() for n in SIZES]
    found = fit_series(series(noisy, 0.02), "n", None, (0.25, 1.0), [1e12], 300, 0)
    low, high = found.intervals["x_half"] or (0, 0)
    assert low < 3e9 < high
    assert found == fit_series(series(noisy, 0.02), "n", None, (0.25, 1.0), [1e12], 300, 0)
    tighter = fit_series(series(noisy, 0.005), "n", None, (0.25, 1.0), [1e12], 300, 0)
    assert np.diff(tighter.answers[0].interval or (0, 0)) < np.diff(found.answers[0].interval or (0, 0))
    assert any("standard errors from the curve" in text for text in tighter.warnings)


def test_power_with_an_offset_against_compute() -> None:
    values = [2.0 + 30 * (120 * n * n) ** -0.1 for n in SIZES]
    found = fit_series(series(values, metric="nll_nats_per_token"), "c", None, (0, 1), [1e26], 0, 0)
    assert found.parameters == pytest.approx({"E": 2.0, "A": 30.0, "alpha": 0.1}, rel=1e-5)
    assert found.answers[0].value == pytest.approx(2.0 + 30 * 1e26**-0.1) and found.answers[0].interval is None


def test_what_a_capability_fit_warns_of_and_refuses() -> None:
    low = fit_series(series([0.2, 0.26, 0.27, 0.3, 0.35]), "n", None, (0.25, 1.0), [], 0, 0)
    assert any("outside 0.25 to 1" in text for text in low.warnings)
    assert any("half-way" in text for text in low.warnings)
    mixed = fit_series(series([0.3, 0.4, 0.5, 0.6, 0.7]), "d", None, (0.25, 1.0), [], 0, 0)
    assert any("several sizes" in text for text in mixed.warnings)
    few = series([0.3, 0.4, 0.5, 0.6, 0.7])
    few.points = few.points[:2]
    with pytest.raises(BadInput, match=r"2 models that differ in parameters; a logistic fit needs 3"):
        fit_series(few, "n", None, (0.25, 1.0), [], 0, 0)


STEPS = np.arange(1, 61)


def test_power_curve_is_found_and_chosen() -> None:
    found = fit_curve(evaluations(2.5 + 6.0 * (100.0 * STEPS) ** -0.4), "val", "steps", None, [20_000.0])
    assert found.form == "power"
    assert found.parameters == pytest.approx({"E": 2.5, "A": 6.0, "alpha": 0.4}, rel=1e-6)
    assert found.answers[0].value == pytest.approx(2.5 + 6.0 * 20_000**-0.4, rel=1e-8)
    assert found.shape is None and len(found.warnings) == 1 and "times the curve's end" in found.warnings[0]


def test_exponential_curve_is_found_and_chosen() -> None:
    found = fit_curve(evaluations(3.0 + 4.0 * np.exp(-STEPS / 12)), "val", "tokens", None, [])
    assert found.form == "exponential"
    assert found.parameters == pytest.approx({"E": 3.0, "A": 4.0, "tau": 12e5}, rel=1e-5)
    assert found.holdout["exponential"] < found.holdout["power"]
    forced = fit_curve(evaluations(3.0 + 4.0 * np.exp(-STEPS / 12)), "val", "tokens", "power", [])
    assert forced.form == "power" and forced.rms > 1e-3


@pytest.mark.parametrize("kind", ["falling", "double descent", "overfitting"])
def test_rises_are_told_from_noise(kind: str) -> None:
    random = np.random.default_rng(7)
    x = np.arange(1, 401)
    losses = 2.5 + 3.0 * x**-0.4 + 0.03 * random.standard_normal(400)
    if kind == "double descent":
        losses += 0.3 * np.exp(-(((x - 200) / 40) ** 2))
    if kind == "overfitting":
        losses += 0.001 * np.maximum(x - 200, 0)
    found = shape_of(x.astype(float), losses)
    assert (found is None) == (kind == "falling")
    if found is not None:
        assert (found.double_descent, found.overfitting) == (kind == "double descent", kind == "overfitting")
        assert found.x_lowest < 260 and found.rise > 0.1
        said = fit_curve(evaluations(losses), "val", "steps", None, []).warnings
        assert any(("double descent" if kind == "double descent" else "over-fitting") in text for text in said)


def test_false_alarms_are_rare() -> None:
    random = np.random.default_rng(11)
    x = np.arange(1, 301)
    found = [shape_of(x.astype(float), 3 + 2 * x**-0.5 + 0.1 * random.standard_normal(300)) for _ in range(200)]
    assert sum(one is not None for one in found) <= 2


def test_curves_too_short_warmups_and_decay() -> None:
    losses = 2.5 + 6.0 * (100.0 * STEPS) ** -0.4
    with pytest.raises(BadInput, match="1 point on val after the warm-up; a curve needs 8"):
        fit_curve(evaluations(losses[:1]), "val", "steps", None, [])
    with pytest.raises(BadInput, match="0 points on train"):
        fit_curve(evaluations(losses), "train", "steps", None, [])
    warm = evaluations(losses)
    for record in warm.evaluations[:10]:
        record |= {"lr_phase": "warmup", "nll_nats_per_token": 9.0}
    assert fit_curve(warm, "val", "steps", None, []).parameters["E"] == pytest.approx(2.5, rel=1e-5)
    decayed = fit_curve(evaluations(losses, "decay"), "val", "steps", None, [])
    assert any("decays inside" in text for text in decayed.warnings)


def test_intervals_of_a_curve_follow_its_scatter_and_the_seed() -> None:
    random = np.random.default_rng(3)
    exact = 2.5 + 6.0 * (100.0 * STEPS) ** -0.4
    losses = exact * (1 + 0.004 * random.standard_normal(len(exact)))
    found = fit_curve(evaluations(losses), "val", "steps", "power", [2e4], 100, 1)
    for name, truth in (("E", 2.5), ("alpha", 0.4)):
        low, high = found.intervals[name] or (0, 0)
        assert low < truth < high and low < found.parameters[name] < high
    (answer,) = found.answers
    low, high = answer.interval or (0, 0)
    assert low < 2.5 + 6.0 * 2e4**-0.4 < high and low < answer.value < high
    assert found == fit_curve(evaluations(losses), "val", "steps", "power", [2e4], 100, 1)
    other = fit_curve(evaluations(losses), "val", "steps", "power", [2e4], 100, 2)
    assert other.answers[0].value == answer.value and other.answers[0].interval != answer.interval
    calm = fit_curve(evaluations(exact + (losses - exact) / 4), "val", "steps", "power", [2e4], 100, 1)
    assert np.diff(calm.answers[0].interval or (0, 0)) < 0.4 * (high - low)
    bare = fit_curve(evaluations(losses), "val", "steps", "power", [2e4])
    assert set(bare.intervals.values()) == {None} and bare.answers[0].interval is None


def covered(truth: float, interval: tuple[float, float] | None) -> bool:
    return interval is not None and interval[0] <= truth <= interval[1]


@pytest.mark.slow
def test_coverage_of_curves() -> None:
    """95 % intervals of 50 simulated curves; 100 or more gave 92 to 94 %, and four errors of the count allow 80 %."""
    x, hits = 10.0 * np.arange(1, 41), 0
    truth = 2.5 + 8 * x**-0.4
    for seed in range(50):
        losses = truth * (1 + 0.004 * np.random.default_rng(seed).standard_normal(40))
        curve = Curve("r", 1e6, [], [{"step": at, "tokens": at, "flops": at, "lr_phase": "stable",
                                      "nll_nats_per_token": float(loss)} for at, loss in zip(x, losses, strict=True)])
        found = fit_curve(curve, "val", "steps", "power", [1200.0], 100, seed)
        hits += covered(2.5 + 8 * 1200**-0.4, found.answers[0].interval) + covered(2.5, found.intervals["E"])
    assert 80 <= hits <= 99


@pytest.mark.slow
@pytest.mark.parametrize("form", ["logistic", "power"])
def test_coverage_of_capabilities(form: str) -> None:
    """95 % intervals of 40 simulated sets of six models with known standard errors; see the manual for the figures."""
    hits = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        sizes = np.geomspace(1e7, 1e11, 6)
        truth = np.array([logistic(n) for n in sizes]) if form == "logistic" else 2 + 30 * sizes**-0.15
        errors = np.sqrt(truth * (1 - truth) / 500) if form == "logistic" else 0.005 * truth
        drawn = Series("t", "acc" if form == "logistic" else "nll_nats_per_token", [
            Point(n, float(value), float(error), f"n{n:.0e}", 20 * n, 120 * n * n)
            for n, value, error in zip(sizes, truth + errors * random.standard_normal(6), errors, strict=True)
        ])  # fmt: skip
        found = fit_series(drawn, "n", form, (0.25, 1.0), [1e12], 100, seed)
        hits += covered(logistic(1e12) if form == "logistic" else 2 + 30 * 1e12**-0.15, found.answers[0].interval)
        known = ("x_half", 3e9) if form == "logistic" else ("alpha", 0.15)
        hits += covered(known[1], found.intervals[known[0]])
    assert 64 <= hits <= 80


def test_separable_fit_is_the_least_squares_minimum() -> None:
    random = np.random.default_rng(2)
    z = np.linspace(-2, 2, 30)
    y = 1.0 + 0.5 * np.exp(-0.7 * z) + 0.05 * random.standard_normal(30)
    problem = Problem(y, np.ones(30), lambda t: np.exp(-t[:, :1] * z), (0.01,), (4.0,))
    found = problem.fit()
    for floor, amplitude, theta in random.normal((found.floor, found.amplitude, found.theta[0]), 0.01, (500, 3)):
        assert ((floor + amplitude * np.exp(-theta * z) - y) ** 2).sum() >= found.squares
    assert problem.fit(found.theta).theta == pytest.approx(found.theta, rel=1e-6)


def test_compute_of_a_reference_for_the_same_loss() -> None:
    flops = 6e11 * STEPS
    base = evaluations(4.0 * (flops / 6e11) ** -0.1, run="base")
    twice = evaluations(4.0 * (2 * flops / 6e11) ** -0.1, "done", run="twice")
    short = Curve("short", 1e6, [], [dict(twice.evaluations[9])])
    (better, brief) = against_run([base, twice, short], "base")
    assert better.run == "twice" and better.reference is None and not better.before
    assert better.own_for_reference == pytest.approx(flops[-1] / 2, rel=2e-3)
    assert brief.multiplier == pytest.approx(2.0, rel=2e-3) and brief.decayed
    early = Curve("early", 1e6, [], [{**twice.evaluations[0], "nll_nats_per_token": 5.0}])
    assert against_run([base, early], "base")[0].before
    law = PUBLISHED["hoffmann"].law
    exact = evaluations(np.array([law.loss(*_best(law, 1e18))]))
    exact.evaluations[0]["flops"] = 1e18
    assert against_law([exact], law)[0].multiplier == pytest.approx(1.0, rel=1e-6)


def _best(law: object, flops: float) -> tuple[float, float]:
    best = law.allocate(flops)  # type: ignore[attr-defined]
    return best.n_opt, best.d_opt


def test_references_that_are_none() -> None:
    base, other = evaluations(np.linspace(4, 3, 20), run="base-1"), evaluations(np.linspace(4, 3, 20), run="base-2")
    for name, says in (("x", "the name of no run"), ("base", "more than one run")):
        with pytest.raises(UsageFault, match=says):
            against_run([base, other], name)
    with pytest.raises(UsageFault, match="the only run"):
        against_run([base], "base-1")


def test_a_reference_with_one_evaluation_gives_one_end() -> None:
    """What it needed for a lower loss is more than it used; what others needed for its loss their own paths say."""
    flops = 6e11 * STEPS
    path = evaluations(4.0 * (flops / 6e11) ** -0.1, "done", run="path")
    low = Curve("low", 1e6, [], [{**path.evaluations[-1], "nll_nats_per_token": 1.0}])
    high = Curve("high", 1e6, [], [{**path.evaluations[-1], "nll_nats_per_token": 5.0}])
    one = Curve("one", 1e6, [], [dict(path.evaluations[9])])
    far, better, worse = against_run([path, low, high, one], "one")
    assert (far.run, better.run, worse.run) == ("path", "low", "high")
    assert far.own_for_reference == pytest.approx(flops[9]) and far.more_than == flops[9] and far.less_than is None
    assert better.own_for_reference is None and better.more_than == flops[9] and better.multiplier is None
    assert worse.before and worse.less_than == flops[9] and worse.more_than is None
    assert against_run([one, Curve("same", 1e6, [], [dict(path.evaluations[9])])], "one")[0].multiplier == 1.0


def test_interpolation_is_logarithmic_and_rises_do_not_count() -> None:
    flops, loss = np.array([1e10, 1e12, 1e13]), np.array([4.0, 3.0, 3.5])
    assert reached(flops, loss, math.sqrt(12.0)) == pytest.approx(1e11)
    assert reached(flops, loss, 2.9) is None and reached(flops, loss, 4.1) is None
