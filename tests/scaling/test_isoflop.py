"""Approach 2 on surfaces of known optimum: what it recovers, by how much it is biased, and what it leaves out."""

from __future__ import annotations

import numpy as np
import pytest

from gpt2cli.scaling.isoflop import SAME_BUDGET, IsoFlop, expected_exponent, fit_isoflop, profiles_of, resampled_lines
from gpt2cli.scaling.laws import ChinchillaLaw, published

BUDGETS = np.geomspace(1e18, 1e21, 5)


def chinchilla(name: str) -> ChinchillaLaw:
    law = published(name).law
    assert isinstance(law, ChinchillaLaw)
    return law


def exponent(law: ChinchillaLaw) -> float:
    return law.beta / (law.alpha + law.beta)


def around_optimum(law: ChinchillaLaw, half: float, shift: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Seven sizes a budget from 1/half to half times `shift` N_opt."""
    n = np.concatenate([law.allocate(c).n_opt * shift * np.geomspace(1 / half, half, 7) for c in BUDGETS])
    return n, np.repeat(BUDGETS, 7) / 6 / n


def fixed_grid(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n = np.tile(sizes, BUDGETS.size)
    return n, np.repeat(BUDGETS, sizes.size) / 6 / n


def recovered(law: ChinchillaLaw, n: np.ndarray, d: np.ndarray) -> tuple[IsoFlop, float, float]:
    """Return the fit, the error of its exponent, and N_opt over the true one in the middle."""
    found = fit_isoflop(n, d, law.loss(n, d))
    assert found.line is not None
    error = found.line.exponent - exponent(law)
    return found, error, float(found.line.at(BUDGETS[2]) / law.allocate(BUDGETS[2]).n_opt)


def test_a_true_parabola_is_recovered_exactly() -> None:
    n, d = fixed_grid(np.geomspace(3e7, 3e10, 9))
    c = 6 * n * d
    found = fit_isoflop(n, d, 2.0 + 1e19**0.05 * c**-0.05 + 0.03 * (np.log(n) - np.log(0.09 * c**0.49)) ** 2)
    assert found.line is not None
    assert (found.line.exponent, found.line.at(1.0)) == (pytest.approx(0.49, abs=1e-9), pytest.approx(0.09, rel=1e-7))
    np.testing.assert_allclose([profile.curvature for profile in found.profiles], 0.03, rtol=1e-8)
    np.testing.assert_allclose([profile.loss_nats for profile in found.profiles], 2 + (1e19 / BUDGETS) ** 0.05)


@pytest.mark.parametrize("name", ["hoffmann", "besiroglu"])
@pytest.mark.parametrize(("half", "shift"), [(1.5, 1), (4, 1), (10, 3), (10, 1 / 3)])
def test_profiles_alike_about_their_optima_give_the_exponent_exactly(name: str, half: float, shift: float) -> None:
    law = chinchilla(name)
    found, error, _ = recovered(law, *around_optimum(law, half, shift))
    assert abs(error) < 1e-12
    assert [profile.minimum for profile in found.profiles] == ["inside"] * 5


def test_the_wider_the_profile_the_further_its_minimum_from_the_optimum() -> None:
    """The bias of approach 2: Hoffmann's law, whose alpha is above its beta, has its minima displaced upwards."""
    law = chinchilla("hoffmann")
    displaced = [recovered(law, *around_optimum(law, half))[2] for half in (1.5, 4, 10)]
    assert displaced == pytest.approx([1.0013, 1.0151, 1.0421], abs=2e-4)
    even = ChinchillaLaw(1.7, 400.0, 400.0, 0.3, 0.3)
    assert recovered(even, *around_optimum(even, 10))[2] == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(("name", "bias"), [("hoffmann", -0.0088), ("besiroglu", -0.0389)])
def test_one_grid_for_every_budget_biases_the_exponent_and_the_fit_says_by_how_much(name: str, bias: float) -> None:
    law = chinchilla(name)
    n, d = fixed_grid(np.geomspace(2e7, 3e10, 12))
    found, error, _ = recovered(law, n, d)
    assert error == pytest.approx(bias, abs=2e-4)
    expected = expected_exponent(found, n, law.loss(n, d))
    assert expected is not None and expected - exponent(law) == pytest.approx(error, abs=1e-12)


def test_minima_at_the_edge_are_flagged_and_left_out() -> None:
    law = chinchilla("hoffmann")
    sizes = law.allocate(BUDGETS[2]).n_opt * np.geomspace(1 / 6, 6, 7)
    n, d = fixed_grid(sizes)
    found = fit_isoflop(n, d, law.loss(n, d))
    assert [profile.minimum for profile in found.profiles] == ["edge", "inside", "inside", "inside", "edge"]
    assert found.line is not None and abs(found.line.exponent - exponent(law)) < 0.02


def test_losses_that_only_bend_down_have_no_minimum() -> None:
    n, d = fixed_grid(np.geomspace(1e8, 1e9, 5))
    found = fit_isoflop(n, d, 5.0 - (np.log(n) - 19) ** 2 / 10)
    assert {profile.minimum for profile in found.profiles} == {"none"}
    assert found.line is None and found.why is not None
    assert "of 5 budgets only 0 have a minimum between their runs (0 at the edge, 5 without one)" in found.why


@pytest.mark.parametrize(("budgets", "says"), [(0, "no budget with"), (1, "only one budget"), (2, "only two budgets")])
def test_too_few_budgets_say_what_to_train(budgets: int, says: str) -> None:
    n = np.concatenate([np.geomspace(1e8, 4e8, 5)] * budgets + [np.array([1e8, 2e8])])
    c = np.concatenate([np.repeat(BUDGETS[:budgets], 5), [3e22, 4e23]])
    why = fit_isoflop(n, c / 6 / n, np.linspace(3, 2, n.size)).why
    assert why is not None and why.startswith(says) and "train 3 sizes or more, better five, at each of 3" in why


def test_budgets_are_told_apart_by_compute_not_by_order() -> None:
    n, d = fixed_grid(np.geomspace(1e8, 1e9, 4))
    wobble = np.exp(np.random.default_rng(0).uniform(0, SAME_BUDGET, n.size) * 0.99)
    order = np.random.default_rng(1).permutation(n.size)
    groups = profiles_of(n[order], (d * wobble)[order])
    assert [sorted(order[group] // 4) for group in groups] == [[k] * 4 for k in range(BUDGETS.size)]


def test_resamples_of_whole_data_repeat_the_fit_and_poor_ones_are_nan() -> None:
    law = chinchilla("hoffmann")
    n, d = around_optimum(law, 4)
    loss = law.loss(n, d) * np.exp(np.random.default_rng(0).normal(size=n.size) * 1e-4)
    found = fit_isoflop(n, d, loss)
    assert found.line is not None
    one_budget = np.where(np.arange(n.size) < 7, 1.0, 0.0)
    doubled, alone = 2 * np.ones(n.size), one_budget
    coefficients, exponents = resampled_lines(found, n, loss, np.stack([doubled, alone]))
    assert (coefficients[0], exponents[0]) == pytest.approx((found.line.log_coefficient, found.line.exponent))
    assert np.isnan(coefficients[1]) and np.isnan(exponents[1])
