"""Every form of law is recovered from what it predicts, in any units, and says what the paper's own formula says."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gpt2cli.errors import UsageFault
from gpt2cli.scaling.fit import fit_surface
from gpt2cli.scaling.fitted_law import FittedLaw, Setting, law_losses, law_of
from gpt2cli.scaling.form_fit import FormProblem, fit_form, resample_form
from gpt2cli.scaling.forms import FORMS, Variables, form_named
from gpt2cli.scaling.laws import published
from gpt2cli.scaling.polish import objective, polish

SIZES, LENGTHS = np.geomspace(1e6, 1e9, 6), np.geomspace(2e7, 2e10, 7)
N, D = (axis.ravel() for axis in np.meshgrid(SIZES, LENGTHS))
UNIQUE = np.where(np.arange(N.size) % 3, 2e9, 3e8)
TRUTH = {
    "chinchilla": (1.69, 406.4, 410.7, 0.34, 0.28),
    "kaplan-n": (8.8e13, 0.076),
    "kaplan-n-floor": (1.5, 3e9, 0.3),
    "kaplan-d": (5.4e13, 0.095),
    "kaplan-d-floor": (1.2, 2e10, 0.25),
    "kaplan-c": (2.7e28, 0.05),
    "kaplan-c-floor": (1.4, 1e22, 0.15),
    "kaplan-nd": (6.4e13, 1.8e13, 0.076, 0.103),
    "kaplan-ns": (6.5e13, 2.1e3, 0.077, 0.76),
    "skaling": (1.2, 3e4, 8e4, 0.6, 0.55, 0.6),
    "data-constrained": (1.87, 521.0, 1488.0, 0.353, 0.36, 15.4, 5.3),
}


def variables(n: np.ndarray = N, d: np.ndarray = D, unique: np.ndarray = UNIQUE) -> Variables:
    steps = np.exp(np.random.default_rng(0).uniform(6, 12, n.size))
    return Variables(np.log(n), np.log(d), np.log(6 * n * d), np.log(steps), np.log(unique))


def exact(name: str, z: Variables) -> np.ndarray:
    """What the form with TRUTH's parameters predicts, by its unit conversion at centre 0."""
    form = FORMS[name]
    theta = form.from_units(np.array(TRUTH[name])[None], dict.fromkeys("ndcsu", 0.0) | {"loss": 0.0})
    return form.predict(theta, z)[0]


def test_every_form_is_tried() -> None:
    assert set(TRUTH) == set(FORMS)


@pytest.mark.parametrize("name", TRUTH)
def test_recovers_its_own_law_without_noise(name: str) -> None:
    found = fit_form(FORMS[name], variables(), exact(name, variables()))
    assert found.converged and found.at_bound == ()
    np.testing.assert_allclose(found.parameters, TRUTH[name], rtol=1e-4)


@pytest.mark.parametrize("name", [name for name in TRUTH if name not in ("chinchilla", "data-constrained")])
def test_heavy_tails_never_leave_it_above_a_start_at_the_truth(name: str) -> None:
    form, z = FORMS[name], variables()
    for seed in range(1 if name == "skaling" else 2):
        loss = exact(name, z) * np.exp(np.random.default_rng(seed).standard_t(2, N.size) * 0.005)
        found = fit_form(form, z, loss)
        problem = FormProblem.of(form, z, loss)
        start = form.from_units(np.array(TRUTH[name]), problem.centre)[None]
        weights = np.ones((1, N.size))
        from_truth, _ = polish(problem, start, weights, 1e-3)
        assert found.objective <= objective(problem, from_truth, weights, 1e-3)[0] * (1 + 1e-6), seed


@pytest.mark.parametrize("name", ["kaplan-nd", "skaling", "kaplan-n-floor", "kaplan-ns"])
def test_units_do_not_matter(name: str) -> None:
    loss = exact(name, variables()) * np.exp(np.random.default_rng(1).normal(size=N.size) * 0.003)
    z = variables()
    moved = Variables(z.get("n") + math.log(1e6), z.get("d") - math.log(1e6), z.c, z.s, z.u)
    plain, scaled = fit_form(FORMS[name], z, loss), fit_form(FORMS[name], moved, loss)
    np.testing.assert_allclose(scaled.residuals, plain.residuals, atol=1e-8)
    assert scaled.condition == pytest.approx(plain.condition, rel=1e-5)


def test_chinchilla_by_the_general_path_is_the_same_minimum() -> None:
    form, z = FORMS["chinchilla"], variables()
    loss = exact("chinchilla", z) * np.exp(np.random.default_rng(2).standard_t(3, N.size) * 0.004)
    fast = fit_surface(N, D, loss)
    problem = FormProblem.of(form, z, loss)
    weights = np.ones((1, N.size))
    start = form.from_units(np.array(TRUTH["chinchilla"]), problem.centre)[None]
    general, _ = polish(problem, start, weights, 1e-3)
    assert objective(problem, general, weights, 1e-3)[0] == pytest.approx(fast.objective, rel=1e-9)


@pytest.mark.parametrize("name", ["kaplan-nd", "skaling", "data-constrained"])
def test_derivatives_are_those_of_the_residuals(name: str) -> None:
    form, z = FORMS[name], variables()
    problem = FormProblem.of(form, z, exact(name, z))
    theta = form.from_units(np.array(TRUTH[name]) * 1.03, problem.centre)[None]
    residuals, jacobian = problem.linearise(theta)
    slope, second = np.clip(residuals, -1e-2, 1e-2), np.zeros((1, theta.size, theta.size))
    problem.add_second_derivatives(second, theta, jacobian, slope, np.ones(1))
    for i in range(theta.size):
        step = 1e-5 * max(abs(theta[0, i]), 1e-2)
        ends = [theta.copy(), theta.copy()]
        ends[0][0, i] -= step
        ends[1][0, i] += step
        numeric = (problem.residuals(ends[1]) - problem.residuals(ends[0]))[0] / (2 * step)
        np.testing.assert_allclose(jacobian[0, i], numeric, rtol=1e-4, atol=1e-6)
        curved = (np.exp(problem.residuals(ends[1]) - residuals) + np.exp(problem.residuals(ends[0]) - residuals) - 2)[
            0
        ]
        assert second[0, i, i] == pytest.approx(float(slope[0] @ curved) / step**2, rel=2e-2, abs=1e-4)


def test_weights_of_a_resample_are_repetitions() -> None:
    form, z = FORMS["kaplan-nd"], variables()
    loss = exact("kaplan-nd", z) * np.exp(np.random.default_rng(3).normal(size=N.size) * 0.004)
    counts = np.random.default_rng(4).integers(0, 3, N.size)
    weighted = resample_form(form, z, loss, counts[None].astype(float), np.array(TRUTH["kaplan-nd"]))[0]
    repeated = np.repeat(np.arange(N.size), counts)
    again = fit_form(form, variables(N[repeated], D[repeated], UNIQUE[repeated]), loss[repeated])
    np.testing.assert_allclose(weighted, again.parameters, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "paper", "values"),
    [
        ("chinchilla", "hoffmann", TRUTH["chinchilla"]),
        ("kaplan-nd", "kaplan-t2", TRUTH["kaplan-nd"]),
        ("kaplan-ns", "kaplan-ns", TRUTH["kaplan-ns"]),
        ("data-constrained", "muennighoff", (math.exp(0.6254804), math.exp(6.255414), math.exp(7.3049974),
                                             0.3526596, 0.3526596, 15.387756, 5.309743)),
    ],
)  # fmt: skip
def test_losses_are_those_of_the_published_law(name: str, paper: str, values: tuple[float, ...]) -> None:
    n, d = np.array([1e8, 8.67e9, 175e9]), np.array([2e10, 178e9, 300e9])
    law = published(paper).law
    np.testing.assert_allclose(law_losses(name, np.array(values)[None], n, d, Setting())[0], law.loss(n, d), rtol=1e-9)
    again = law_of(name, np.array(values))
    np.testing.assert_allclose(again.loss(n, d), law.loss(n, d), rtol=1e-9)


def test_repeated_data_is_worth_less_and_both_paths_agree() -> None:
    setting = Setting(unique=1e9)
    values = np.array(TRUTH["data-constrained"])
    law = law_of("data-constrained", values, setting)
    d = np.array([5e8, 1e9, 4e9, 4e10])
    losses = law_losses("data-constrained", values[None], 1e9, d, setting)[0]
    np.testing.assert_allclose(law.loss(1e9, d), losses, rtol=1e-9)
    fresh = law_losses("data-constrained", values[None], 1e9, d, Setting())[0]
    assert (losses[2:] > fresh[2:]).all()
    ceiling = law_losses("data-constrained", values[None], 1e9, 1e15, setting)[0, 0]
    assert ceiling > law_losses("data-constrained", values[None], 1e9, 1.7e10, Setting())[0, 0], "at most 16.4 U"


def test_steps_of_a_batch_agree_with_the_paper_s_solution() -> None:
    law = published("kaplan-ns").law
    setting = Setting(batch=524_288.0)
    found = law_losses("kaplan-ns", np.array(TRUTH["kaplan-ns"])[None], 1e8, 1e10, setting)[0, 0]
    assert found == pytest.approx(float(law.at_steps(1e8, 1e10 / 524_288, 524_288)), rel=1e-9)  # type: ignore[union-attr]


def test_laws_of_one_variable_answer_for_n_and_d() -> None:
    assert FittedLaw("kaplan-n", TRUTH["kaplan-n"]).loss(175e9, 1.0) == pytest.approx((8.8e13 / 175e9) ** 0.076)
    law = FittedLaw("kaplan-c", TRUTH["kaplan-c"])
    assert law.loss(1e9, 1e10) == pytest.approx((2.7e28 / 6e19) ** 0.05)
    assert law.parameters == {"C_c": 2.7e28, "alpha_C": 0.05}
    assert law.loss(np.ones(2), np.ones(2)).shape == (2,)


@pytest.mark.parametrize(("name", "ratio"), [("kaplan-n", 0.839), ("kaplan-d", 0.803), ("kaplan-c", 0.891)])
def test_ten_times_more_lowers_the_loss_as_kaplan_says(name: str, ratio: float) -> None:
    """-16.1 % for N, -19.7 % for D, -10.9 % for C_min."""
    law = FittedLaw(name, TRUTH[name])
    assert law.loss(1e9, 1e10) * ratio == pytest.approx(law.loss(1e10, 1e10 if name == "kaplan-c" else 1e11), rel=1e-3)


def test_an_unknown_form_lists_the_names() -> None:
    with pytest.raises(UsageFault, match="there are chinchilla"):
        form_named("kaplan")


def repeated_surface(seed: int) -> tuple[np.ndarray, Variables]:
    """A law of repeated data and a design for it: sizes on both sides of what U is optimal for, or all beyond it."""
    random = np.random.default_rng(seed)
    alpha, beta = random.uniform(0.15, 0.6, 2)
    size, length = (1e8, 2e9) if seed % 3 else (1e5, 5e6)
    decays = np.exp(random.uniform(np.log([2, 1]), np.log([40, 20])))
    amplitudes = random.uniform(0.2, 1.5, 2) * (size**alpha, length**beta)
    n, d = (axis.ravel() for axis in np.meshgrid(size * np.geomspace(0.05, 20, 6), length * np.geomspace(0.05, 50, 7)))
    unique = length * np.array([0.15, 0.8, 3.0])[np.arange(n.size) % 3 if seed % 2 else np.full(n.size, 1)]
    truth = np.array([random.uniform(0.8, 2.2), *amplitudes, alpha, beta, *decays])
    return truth, variables(n, d, np.minimum(unique, d))


@pytest.mark.slow
def test_laws_of_repeated_data_are_found_in_their_lowest_minimum() -> None:
    """Never above a start at the truth; without noise the truth itself wherever the design identifies it."""
    form, identified = FORMS["data-constrained"], 0
    for seed in range(15):
        (truth, z), noise = repeated_surface(seed), 0.004 if seed % 5 < 2 else 0.0
        loss = form.predict(form.from_units(truth[None], dict.fromkeys("ndcsu", 0.0) | {"loss": 0.0}), z)[0]
        loss = loss * np.exp(noise * np.random.default_rng(seed).standard_t(3, loss.size))
        found, problem = fit_form(form, z, loss), FormProblem.of(form, z, loss)
        weights = np.ones((1, loss.size))
        from_truth, _ = polish(problem, form.from_units(truth, problem.centre)[None], weights, 1e-3)
        assert found.objective <= objective(problem, from_truth, weights, 1e-3)[0] * (1 + 1e-6) + 1e-12, seed
        if not noise and found.condition is not None and found.condition < 100:
            identified += 1
            np.testing.assert_allclose(found.parameters, truth, rtol=1e-4, err_msg=str(seed))
    assert identified >= 2


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["kaplan-nd", "chinchilla", "skaling"])
def test_runs_of_one_loss_and_runs_beyond_all_sizes_warn_of_nothing_of_numpys(name: str) -> None:
    for exponent, losses in ((5, [3.0] * 25), (50, [2.0 + 0.018 * i for i in range(25)])):
        n, d = (axis.ravel() for axis in np.meshgrid(10.0 ** np.arange(exponent, exponent + 5),
                                                     10.0 ** np.arange(exponent + 2, exponent + 7)))
        z = Variables(np.log(n), np.log(d), np.log(6 * n * d))
        found = fit_form(FORMS[name], z, np.array(losses))
        assert np.isfinite(found.parameters).all()
        resample_form(FORMS[name], z, np.array(losses), np.ones((2, 25)), found.parameters)
