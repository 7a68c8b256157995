"""Approach 1 on simulated training curves of a known surface: exact where it should be, and honest where it can't."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpt2cli.errors import BadInput
from gpt2cli.scaling.envelope import CurveCollector, TrainingCurve, fit_envelope, resampled_lines
from gpt2cli.scaling.laws import ChinchillaLaw, published

SIZES = 1e8 * 2.0 ** np.arange(6)


def chinchilla(name: str) -> ChinchillaLaw:
    law = published(name).law
    assert isinstance(law, ChinchillaLaw)
    return law


def exponent(law: ChinchillaLaw) -> float:
    return law.beta / (law.alpha + law.beta)


def simulated(law: ChinchillaLaw, sizes: np.ndarray, until: float = 400.0, noise: float = 0.0) -> list[TrainingCurve]:
    generator = np.random.default_rng(3)
    curves = []
    for n in sizes:
        tokens = np.geomspace(0.2 * n, until * n, 800)
        loss = law.loss(n, tokens) * np.exp(noise * generator.normal(size=tokens.size))
        curves.append(TrainingCurve(f"n{n:.0f}", n, tokens, loss))
    return curves


@pytest.mark.parametrize("name", ["hoffmann", "hoffmann-unrounded", "besiroglu"])
@pytest.mark.parametrize("ratio", [2.0, 4.0])
def test_sizes_in_equal_ratios_give_the_exponent(name: str, ratio: float) -> None:
    law = chinchilla(name)
    found = fit_envelope(simulated(law, 1e8 * ratio ** np.arange(6)))
    assert found.line is not None and len(found.free) >= 4
    assert found.line.exponent == pytest.approx(exponent(law), abs=5e-4)
    assert found.line.at(1e20) == pytest.approx(law.allocate(1e20).n_opt, rel=0.01)


def test_the_staircase_itself_would_be_too_flat() -> None:
    """Why the line goes through handovers: the regression on winning sizes loses 1/K^2 of the slope over K steps."""
    law = chinchilla("hoffmann")
    found = fit_envelope(simulated(law, SIZES))
    first, last = found.free[0].flops, found.free[-1].flops
    inside = (found.flops > first) & (found.flops < last)
    steps = np.log(found.flops[inside]), np.log(found.sizes[found.winner[inside]])
    slope = np.polyfit(*steps, 1)[0]
    assert slope == pytest.approx(exponent(law) * (1 - 1 / 4**2), abs=0.005)


def test_noise_makes_sizes_change_places_but_not_the_line() -> None:
    law = chinchilla("hoffmann")
    found = fit_envelope(simulated(law, SIZES, noise=0.002))
    assert np.count_nonzero(np.diff(found.winner)) > 20
    assert len(found.handovers) == 5 and found.line is not None
    assert found.line.exponent == pytest.approx(exponent(law), abs=0.04)


def test_the_envelope_is_the_lowest_loss_of_any_curve() -> None:
    law = chinchilla("hoffmann")
    found = fit_envelope(simulated(law, SIZES))
    every = np.array([law.loss(n, found.flops / 6 / n) for n in SIZES])
    inside = found.flops < 6 * SIZES[0] ** 2 * 400
    np.testing.assert_allclose(found.loss[inside], every.min(axis=0)[inside], rtol=1e-4)


def test_several_lengths_of_a_size_compete_as_one() -> None:
    law = chinchilla("hoffmann")
    curves = simulated(law, SIZES)
    worse = [TrainingCurve(f"{c.run}-long", c.n, c.tokens, c.loss * 1.02) for c in curves]
    assert fit_envelope(curves + worse).line == fit_envelope(curves).line


def test_a_handover_forced_by_the_end_of_a_curve_does_not_count() -> None:
    law = chinchilla("hoffmann")
    short_curves = fit_envelope(simulated(law, SIZES, until=8.0))
    assert short_curves.handovers and not short_curves.free
    assert short_curves.line is None and short_curves.why is not None
    assert "only 0 times" in short_curves.why and "more where a curve ends" in short_curves.why
    assert "train the smaller models longer" in short_curves.why


@pytest.mark.parametrize(
    ("sizes", "says"), [([], "no training curves"), ([1e8], "only one size"), ([1e8, 2e8, 4e8], "only 3 sizes")]
)
def test_too_few_curves_are_told_in_a_sentence(sizes: list[float], says: str) -> None:
    found = fit_envelope(simulated(chinchilla("hoffmann"), np.array(sizes)))
    assert found.line is None and found.why is not None
    assert says in found.why and "four sizes" in found.why


def test_resamples_keep_the_runs_drawn() -> None:
    found = fit_envelope(simulated(chinchilla("hoffmann"), SIZES))
    assert found.line is not None
    every, last_gone, none = np.ones(6, bool), np.arange(6) < 5, np.zeros(6, bool)
    coefficients, exponents = resampled_lines(found, np.stack([every, last_gone, none]))
    assert (coefficients[0], exponents[0]) == (found.line.log_coefficient, found.line.exponent)
    assert exponents[1] == pytest.approx(exponents[0], abs=1e-3) and exponents[1] != exponents[0]
    assert np.isnan(exponents[2])


def collected(phases: list[str], parent: str | None = None, kind: str = "gpt2.step/1") -> CurveCollector:
    collector = CurveCollector()
    collector.add({"schema": "gpt2.run/1", "run": "a", "n_params": 1e6, "parent_run": parent})
    for step, phase in enumerate(phases, 1):
        record: dict[str, Any] = {"schema": kind, "run": "a", "tokens": 1000 * step, "lr_phase": phase}
        record |= {"loss_nats": 5.0 - step / 100, "nll_nats_per_token": 5.0 - step / 100, "split": "val"}
        collector.add(record)
    return collector


@pytest.mark.parametrize(
    ("phases", "first", "points"),
    [
        (["warmup"] * 5 + ["decay"] * 30, 6, 30),
        (["warmup"] * 5 + ["stable"] * 25 + ["decay"] * 30, 6, 25),
        (["warmup"] * 5 + ["stable"] * 40, 6, 40),
    ],
)
def test_curves_are_compared_like_with_like(phases: list[str], first: int, points: int) -> None:
    """No warm-up, and of a run with a stable learning rate neither its decay."""
    (curve,), kind = collected(phases).curves()
    assert kind == "training" and (curve.tokens[0], len(curve.tokens)) == (1000 * first, points)


def test_a_decayed_branch_is_no_curve() -> None:
    assert collected(["decay"] * 40, parent="trunk").curves() == ([], "validation")


def test_validation_losses_serve_where_no_training_losses_are() -> None:
    (curve,), kind = collected(["decay"] * 5 + ["done"], kind="gpt2.eval/1").curves()
    assert kind == "validation" and curve.loss.tolist() == pytest.approx([5 - k / 100 for k in range(1, 7)])
    assert collected(["decay"] * 3, kind="gpt2.eval/1").curves()[0] == []


def test_a_loss_that_is_no_number_is_refused() -> None:
    with pytest.raises(BadInput, match="'a' has no number in tokens or loss_nats"):
        CurveCollector().add({"schema": "gpt2.step/1", "run": "a", "tokens": 1, "loss_nats": "low"})
