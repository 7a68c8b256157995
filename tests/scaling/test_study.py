"""What a study reports beside the parameters: hold-out error, influential runs, the form chosen, what was left out."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2cli.errors import BadInput, Gpt2Error
from gpt2cli.scaling.data_constrained import DataConstrainedLaw
from gpt2cli.scaling.forms import FORMS
from gpt2cli.scaling.laws import published
from gpt2cli.scaling.observations import Observations
from gpt2cli.scaling.saved import known_law
from gpt2cli.scaling.study import FitConfig, Report, fit_observations

SIZES, LENGTHS = np.geomspace(1e6, 6.4e7, 5), np.geomspace(2e7, 2e9, 5)
N, D = (axis.ravel() for axis in np.meshgrid(SIZES, LENGTHS))


def runs(n: np.ndarray, d: np.ndarray, loss: np.ndarray, **more: Any) -> Observations:
    names = tuple(f"r{i:02d}" for i in range(len(n)))
    return Observations(n, d, loss, np.full(len(n), np.nan), names, np.arange(len(n)), "total", **more)


def noisy(law: Any, n: np.ndarray = N, d: np.ndarray = D, seed: int = 1, noise: float = 0.002) -> np.ndarray:
    return np.asarray(law.loss(n, d) * np.exp(np.random.default_rng(seed).normal(size=n.size) * noise))


def encoded(record: Any) -> Any:
    return json.loads(json.dumps(record))


def study(seen: Observations, law: str = "chinchilla", resamples: int = 0, **more: Any) -> Report:
    return fit_observations(seen, FitConfig(("-",), resamples=resamples, law=law, **more))


def test_held_out_runs_have_more_compute_than_those_fitted_and_are_met_once() -> None:
    report = study(runs(N, D, noisy(published("hoffmann").law)))
    found = report.record()["diagnosis"]["rolling_origin"]
    names = [each["run"] for each in found["predictions"]]
    assert len(names) == len(set(names)) >= 10
    for each in found["predictions"]:
        assert each["reach"] > 1
        assert each["fitted_runs"] <= (each["n"] * each["d"] * 1.001 > N * D).sum() - 1
        assert each["log_error"] == pytest.approx(np.log(each["predicted_nats"] / each["loss_nats"]), abs=1e-7)
    assert 0.0005 < found["rms_log_error"] < 0.02
    assert found["rms_log_error"] > report.found.rms_log_residual, "prediction is harder than fitting"


def test_held_out_error_of_an_exact_law_is_nothing_and_of_a_wrong_form_is_large() -> None:
    exact = runs(N, D, np.asarray(published("kaplan-t2").law.loss(N, D)))
    right = study(exact, "kaplan-nd").held_out["rms_log_error"]
    wrong = study(exact, "chinchilla").held_out["rms_log_error"]
    assert right < 1e-8 < 1e-2 < wrong


@pytest.mark.parametrize(("paper", "chosen"), [("hoffmann", "chinchilla"), ("kaplan-t2", "kaplan-nd")])
def test_auto_finds_the_form_that_made_the_runs(paper: str, chosen: str) -> None:
    """Seed 2 of Hoffmann's law: skaling, which contains it, fits closer, and does not predict better for that."""
    report = study(runs(N, D, noisy(published(paper).law, seed=2)), "auto")
    assert report.form.name == chosen
    table = {each["law"]: each for each in report.candidates}
    assert set(table) == {"chinchilla", "kaplan-nd", "skaling"}
    if chosen == "chinchilla":
        assert table["skaling"]["rms_log_residual"] < table["chinchilla"]["rms_log_residual"]
        assert table["kaplan-nd"]["rms_log_error"] > 5 * table["chinchilla"]["rms_log_error"]


def test_auto_takes_the_one_variable_that_varies() -> None:
    n = np.geomspace(1e6, 1e9, 8)
    for floor, scale, alpha, name in ((0.0, 8.8e13, 0.076, "kaplan-n"), (2.0, 3e8, 0.3, "kaplan-n-floor")):
        report = study(runs(n, np.full(8, 1e10), floor + (scale / n) ** alpha), "auto")
        assert report.form.name == name
    collinear = study(runs(n, 20 * n, (1e25 / (120 * n * n)) ** 0.05), "auto")
    assert collinear.form.name == "kaplan-c"


def test_auto_needs_runs_to_hold_out() -> None:
    n, d = N[[0, 2, 4, 10, 12, 14]], D[[0, 2, 4, 10, 12, 14]]
    seen = runs(n, d, np.asarray(published("hoffmann").law.loss(n, d)))
    with pytest.raises(BadInput, match=r"runs are too few for --law auto.*name a law, or add runs"):
        study(seen, "auto")


@settings(max_examples=60, deadline=None)
@given(
    st.fixed_dictionaries(
        {"law": st.sampled_from(sorted(FORMS))},
        optional={
            name: st.recursive(
                st.none() | st.booleans() | st.floats() | st.text(max_size=3),
                lambda inner: (
                    st.lists(inner, max_size=3)
                    | st.dictionaries(
                        st.sampled_from(("E", "N_c", "n", "d", "loss_nats", "cluster", "drawn", "B_star")), inner
                    )
                ),
                max_leaves=6,
            )
            for name in ("parameters", "observations", "bootstrap", "setting", "objective")
        },
    )
)
def test_a_fit_of_any_json_is_a_law_or_bad_input(record: dict[str, Any]) -> None:
    try:
        assert known_law(record, "fit.jsonl").name == record["law"]
    except Gpt2Error as error:
        assert str(error).startswith("fit.jsonl: ")


def test_laws_of_one_variable_leave_the_other_runs_out_by_rule() -> None:
    seen = runs(N, D, noisy(published("kaplan-t2").law))
    assert study(seen, "kaplan-n").record()["excluded"] == {"shorter run of the same size": 20}
    assert study(seen, "kaplan-d").record()["excluded"] == {"smaller model at the same length": 20}
    by_compute = study(seen, "kaplan-c")
    (reason,) = by_compute.record()["excluded"]
    assert reason.startswith("above the compute frontier")
    assert (
        np.diff(by_compute.observations.loss[np.argsort(by_compute.observations.n * by_compute.observations.d)]) < 0
    ).all()


def test_condition_above_100_is_refused_with_the_run_that_mends_it() -> None:
    n = np.geomspace(1e6, 1e9, 12)
    d = 20 * n * np.where(np.arange(12) % 2, 1.1, 0.9)
    seen = runs(n, d, np.asarray(published("hoffmann").law.loss(n, d)))
    with pytest.raises(BadInput, match=r"condition number is \d+, above 100") as refused:
        study(seen)
    advice = re.search(
        r"add a run of N = (\S+) with D = (\S+), which by this fit brings it to (\d+)", str(refused.value)
    )
    assert advice is not None
    more_n, more_d = (float(text.replace("M", "e6").replace("B", "e9")) for text in advice.groups()[:2])
    n, d = np.append(n, more_n), np.append(d, more_d)
    mended = study(runs(n, d, np.asarray(published("hoffmann").law.loss(n, d))))
    assert mended.found.condition == pytest.approx(float(advice[3]), rel=0.05)
    assert study(seen, allow_unidentified=True).warnings[0].startswith("NOT IDENTIFIED: the condition number")


def test_a_term_that_is_not_there_is_refused() -> None:
    seen = runs(N, D, 1.69 + 410.7 * D**-0.28 + 3e-4 * np.log(N / 1e6))
    with pytest.raises(BadInput, match="A, alpha ran to a bound"):
        study(seen)


def test_the_run_off_the_surface_is_the_influential_one() -> None:
    loss = noisy(published("hoffmann").law, noise=0.0005)
    loss[np.argmax(N * D)] *= 1.06
    n, d, loss = N[10:], D[10:], loss[10:]
    report = study(runs(n, d, loss), delta=1.0)
    first = report.record()["diagnosis"]["influential"][0]
    assert first["run"] == f"r{int(np.argmax(n * d)):02d}"
    assert first["log_loss_shift"] < -0.01
    assert any("hangs on this one run" in text for text in report.warnings)


def test_repeated_data_is_fitted_and_its_unique_tokens_kept() -> None:
    truth = DataConstrainedLaw(1.87, 521.0, 1488.0, 0.353, 0.36, 15.4, 5.3)
    n, d = (axis.ravel() for axis in np.meshgrid(np.geomspace(1e7, 3e9, 6), np.geomspace(1e8, 2e11, 8)))
    unique = np.where(np.arange(n.size) % 2, 2e9, 5e8)
    loss = np.array([
        float(replace(truth, unique=float(u)).loss(a, b))
        for a, b, u in zip(n, d, unique, strict=True)
    ])  # fmt: skip
    report = study(runs(n, d, loss, unique=unique), "data-constrained")
    np.testing.assert_allclose(report.fit.parameters, list(vars(truth).values())[:7], rtol=1e-4)
    assert report.record()["setting"]["unique_tokens"] == pytest.approx(1.25e9)
    with pytest.raises(BadInput, match="no run repeats its data"):
        study(runs(n, d, loss), "data-constrained", unique=1e15)
    with pytest.raises(BadInput, match="give --unique"):
        study(runs(n, d, loss), "data-constrained")


def test_steps_count_by_the_critical_batch() -> None:
    law = published("kaplan-ns").law
    batch = 2.0**17
    loss = np.asarray(law.at_steps(N, D / batch, batch))  # type: ignore[union-attr]
    report = study(runs(N, D, loss, steps=D / batch), "kaplan-ns", 50)
    np.testing.assert_allclose(report.fit.parameters, (6.5e13, 2.1e3, 0.077, 0.76), rtol=1e-5)
    assert report.held_out["rms_log_error"] < 1e-6
    record = report.record()
    assert record["setting"]["batch_tokens"] == batch
    saved = known_law(encoded(record), "fit.jsonl")
    low, high = saved.boot.interval(saved.boot.losses(1e8, 1e10)[:, 0])  # type: ignore[union-attr,misc]
    assert low * (1 - 1e-6) <= float(saved.law.loss(1e8, 1e10)) <= high * (1 + 1e-6), "both at the critical batch"
    with pytest.raises(BadInput, match="needs the steps of each run, and 25 of 25"):
        study(runs(N, D, loss), "kaplan-ns")


@pytest.mark.parametrize("name", ["kaplan-n-floor", "kaplan-c", "kaplan-nd", "skaling", "chinchilla"])
def test_a_saved_fit_of_any_form_gives_the_same_answers_and_intervals(name: str) -> None:
    report = study(runs(N, D, noisy(published("hoffmann").law)), name, 40)
    saved = known_law(encoded(report.record()), "fit.jsonl")
    assert saved.name == name and saved.boot is not None
    np.testing.assert_allclose(saved.law.loss(1e8, 1e10), report.law.loss(1e8, 1e10), rtol=1e-8)
    np.testing.assert_allclose(saved.boot.losses(1e8, 1e10), report.boot.losses(1e8, 1e10), rtol=1e-5)


@pytest.mark.parametrize(
    "change", [{"setting": {"B_star": 0}}, {"setting": [1]}, {"law": "kaplan-n"}, {"observations": [{"n": "x"}]}]
)
def test_a_damaged_fit_is_bad_input(change: dict[str, Any]) -> None:
    record = encoded(study(runs(N, D, noisy(published("hoffmann").law))).record())
    with pytest.raises(BadInput, match=r"fit\.jsonl"):
        known_law({**record, **change}, "fit.jsonl")


@pytest.mark.slow
@pytest.mark.parametrize(("law", "paper"), [("kaplan-nd", "kaplan-t2"), ("skaling", "hoffmann")])
def test_intervals_of_other_forms_cover_predictions(law: str, paper: str) -> None:
    """Of 12 ladders, the 95 % interval of the loss at ten times the compute covers at least 10."""
    truth, covered = published(paper).law, 0
    for seed in range(12):
        report = study(runs(N, D, noisy(truth, seed=seed)), law, 200, seed=seed, allow_unidentified=True)
        low, high = report.boot.interval(report.boot.losses(2e8, 6.4e9)[:, 0]) or (np.nan, np.nan)
        covered += low <= float(truth.loss(2e8, 6.4e9)) <= high
    assert covered >= 10
