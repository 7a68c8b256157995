"""Kaplan's laws, allocation, critical batch, early-stopping bound and section 6.3 against the paper's numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gpt2cli.errors import UsageFault
from gpt2cli.scaling.crossing import crossing
from gpt2cli.scaling.early_stopping import early_stop
from gpt2cli.scaling.kaplan import (
    CRITICAL_BATCH,
    PF_DAY,
    SEPARATE,
    KaplanStepsLaw,
    PowerLaw,
    kaplan_allocation,
    kaplan_parameters,
    tokens_against_overfitting,
)
from gpt2cli.scaling.laws import PUBLISHED, published
from gpt2cli.sizes import SIZES

STEPS_LAW = PUBLISHED["kaplan-ns"].law
assert isinstance(STEPS_LAW, KaplanStepsLaw)


def test_a_pf_day_is_its_seconds() -> None:
    assert PF_DAY == 1e15 * 24 * 60 * 60 == 8.64e19


@pytest.mark.parametrize(
    ("variable", "exponent", "scale"),
    [
        ("n", 0.076, 8.8e13),
        ("d", 0.095, 5.4e13),
        ("c", 0.050, 3.1e8 * 8.64e19),
        ("c-fixed-batch", 0.057, 1.6e7 * 8.64e19),
    ],
)
def test_separate_fits_of_table_5(variable: str, exponent: float, scale: float) -> None:
    law = SEPARATE[variable]
    assert (law.exponent, law.scale, law.E) == (exponent, pytest.approx(scale), 0.0)
    assert law.value(law.scale) == pytest.approx(1.0)
    assert published("kaplan-t5").separate is SEPARATE


@pytest.mark.parametrize(("variable", "percent"), [("n", 16.1), ("d", 19.7), ("c", 10.9)])
def test_ten_times_of_each(variable: str, percent: float) -> None:
    law = SEPARATE[variable]
    fall = 1 - law.value(1e21) / law.value(1e20)
    assert 100 * fall == pytest.approx(percent, abs=0.06)
    assert fall == pytest.approx(1 - 10**-law.exponent, rel=1e-12)


@pytest.mark.parametrize(("loss", "tokens"), [(4, 2.85e5), (3, 1.12e6), (2, 7.74e6)])
def test_critical_batch_grows_as_the_loss_falls(loss: float, tokens: float) -> None:
    assert CRITICAL_BATCH.at(loss) == pytest.approx(tokens, rel=3e-3)


def test_tables_2_and_3() -> None:
    joint = PUBLISHED["kaplan-t2"].law
    assert (joint.alpha_N, joint.alpha_D, joint.N_c, joint.D_c) == (0.076, 0.103, 6.4e13, 1.8e13)  # type: ignore[union-attr]
    assert (STEPS_LAW.alpha_N, STEPS_LAW.alpha_S, STEPS_LAW.N_c, STEPS_LAW.S_c) == (0.077, 0.76, 6.5e13, 2.1e3)
    assert STEPS_LAW.at_min_steps(6.5e13, 2.1e3) == pytest.approx(2.0)


def test_steps_of_a_batch_count_as_s_min() -> None:
    loss = STEPS_LAW.at_steps(1e9, 1e5, 5e5)
    s_min = 1e5 / (1 + CRITICAL_BATCH.at(loss) / 5e5)
    assert STEPS_LAW.at_min_steps(1e9, s_min) == pytest.approx(loss, rel=1e-12)
    assert STEPS_LAW.at_steps(1e9, 1e5, 1e15) == pytest.approx(STEPS_LAW.at_min_steps(1e9, 1e5), rel=1e-6)


def test_compute_at_the_critical_batch_is_twice_the_least() -> None:
    n, d = 1e9, 1e11
    loss = STEPS_LAW.loss(n, d)
    assert STEPS_LAW.at_min_compute(n, 6 * n * d / 2) == pytest.approx(loss, rel=1e-12)
    batch = float(CRITICAL_BATCH.at(loss))
    assert STEPS_LAW.at_steps(n, d / batch, batch) == pytest.approx(loss, rel=1e-12)


def test_laws_of_steps_take_arrays_and_limits() -> None:
    both = STEPS_LAW.loss(np.array([1e8, 1e9]), np.array([1e10, 1e11]))
    assert both == pytest.approx([STEPS_LAW.loss(1e8, 1e10), STEPS_LAW.loss(1e9, 1e11)])
    assert STEPS_LAW.loss(1e9, math.inf) == pytest.approx((6.5e13 / 1e9) ** 0.077)


def test_allocation_and_its_sum() -> None:
    day = kaplan_allocation(PF_DAY)
    assert (day.n, day.d, day.batch, day.s_min) == (1.3e9, 2e10, 2.0e6, 5.4e3)
    assert 6 * day.n * day.d / PF_DAY == pytest.approx(1.81, abs=0.005)
    more = kaplan_allocation(10 * PF_DAY)
    powers = [math.log10(getattr(more, name) / getattr(day, name)) for name in ("n", "d", "batch", "s_min")]
    assert powers == pytest.approx([0.73, 0.27, 0.24, 0.03])


def test_popular_allocation_spends_a_fifteenth() -> None:
    """N = 0.3 C^.73 and D = 3.2 C^.27 in billions, as summaries have it, against the prefactors above."""
    spent = 6 * 0.3e9 * 3.2e9 / PF_DAY
    assert spent == pytest.approx(0.067, abs=5e-4)


def test_data_against_overfitting_grow_with_the_model() -> None:
    assert tokens_against_overfitting(1e9) == pytest.approx(5e3 * 1e9**0.74)
    assert tokens_against_overfitting(1e10) / tokens_against_overfitting(1e9) == pytest.approx(10**0.74)


def test_gpt3_took_3646_pf_days() -> None:
    days = 6 * 175e9 * 300e9 / PF_DAY
    assert days == pytest.approx(3646, abs=0.5)


@pytest.mark.parametrize(("name", "count"), [("small", 84_934_656), ("xl", 48 * 12 * 1600**2)])
def test_kaplan_counts_matrices_only(name: str, count: int) -> None:
    shape = SIZES[name]
    assert kaplan_parameters(shape.n_layer, shape.n_embd) == count == 12 * shape.n_layer * shape.n_embd**2
    assert kaplan_parameters(6, 768, d_attn=384, d_ff=1000) == 2 * 768 * 6 * (2 * 384 + 1000)


def test_laws_cross_where_section_6_3_says() -> None:
    found = crossing()
    assert found.pf_days == pytest.approx(1e4, rel=0.3)
    assert found.n == pytest.approx(1e12, rel=0.3)
    assert 1e12 / 10 < found.d < 1e12 * 10
    assert found.loss == pytest.approx(1.7, abs=0.05)
    assert SEPARATE["d"].value(found.d) == pytest.approx(found.loss, rel=1e-9)
    beyond = kaplan_allocation(10 * found.c_min)
    assert SEPARATE["c"].value(10 * found.c_min) < SEPARATE["d"].value(beyond.d)


def test_parallel_laws_do_not_cross() -> None:
    with pytest.raises(UsageFault, match="do not cross"):
        crossing(PowerLaw("c", 0.001, 1e40), PowerLaw("d", 0.095, 5.4e13))


def test_early_stopping_bound_is_equation_5_7() -> None:
    law = published("kaplan-t2").law
    found = early_stop(law, 1e8, 2e7, batch=1e12)
    gap = law.loss(1e8, 2e7) - (6.4e13 / 1e8) ** 0.076
    assert found.gap == pytest.approx(gap)
    assert found.s_min == pytest.approx(2.1e3 / gap ** (1 / 0.76))
    assert found.steps == pytest.approx(found.s_min, rel=1e-3), "far above the critical batch size"
    at_critical = early_stop(law, 1e8, 2e7)
    assert at_critical.batch == pytest.approx(CRITICAL_BATCH.at(law.loss(1e8, 2e7)))
    assert at_critical.steps == pytest.approx(2 * found.s_min)
    assert at_critical.epochs == pytest.approx(at_critical.steps * at_critical.batch / 2e7)


def test_more_data_stop_later_and_endless_data_never() -> None:
    law = published("kaplan-t2").law
    assert early_stop(law, 1e8, 2e9).steps > early_stop(law, 1e8, 2e8).steps
    assert early_stop(law, 1e8, math.inf).steps == math.inf
