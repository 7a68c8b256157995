"""Published laws against the check values of their papers."""

from __future__ import annotations

import numpy as np
import pytest

from gpt2cli.errors import UsageFault
from gpt2cli.scaling.laws import PUBLISHED, ChinchillaLaw, closed_form, published

GOPHER_BUDGET = 5.76e23


@pytest.mark.parametrize(
    ("name", "n", "d"),
    [("hoffmann", 32.2e9, 2.98e12), ("hoffmann-unrounded", 40.4e9, 2.38e12), ("besiroglu", 72.2e9, 1.33e12)],
)
def test_optimum_at_the_chinchilla_budget(name: str, n: float, d: float) -> None:
    best = closed_form(name, published(name).law).allocate(GOPHER_BUDGET)
    assert best.n_opt == pytest.approx(n, rel=2e-3)
    assert best.d_opt == pytest.approx(d, rel=2.5e-3)
    assert 6 * best.n_opt * best.d_opt == pytest.approx(GOPHER_BUDGET, rel=1e-12)


@pytest.mark.parametrize("name", [name for name, entry in PUBLISHED.items() if isinstance(entry.law, ChinchillaLaw)])
@pytest.mark.parametrize("flops", [1e17, 1e21, 1e25])
def test_no_other_split_of_the_budget_is_better(name: str, flops: float) -> None:
    law = closed_form(name, published(name).law)
    best = law.allocate(flops)
    sizes = best.n_opt * np.geomspace(0.01, 100, 2001)
    losses = law.loss(sizes, flops / 6 / sizes)
    assert best.loss <= losses.min() + 1e-12
    assert abs(np.log(sizes[losses.argmin()] / best.n_opt)) < 0.01


@pytest.mark.parametrize(("name", "loss"), [("kaplan-t5", 1.732), ("kaplan-t2", 1.661)])
def test_kaplan_predicts_gpt3(name: str, loss: float) -> None:
    assert published(name).law.loss(175e9, 300e9) == pytest.approx(loss, abs=6e-4)


def test_ten_times_the_parameters_or_data_by_kaplan() -> None:
    law = published("kaplan-t5").law
    assert 1 - law.loss(1e9, 1e30) / law.loss(1e8, 1e30) == pytest.approx(0.161, abs=5e-4)
    assert 1 - law.loss(1e30, 1e10) / law.loss(1e30, 1e9) == pytest.approx(0.1965, abs=5e-4)


def test_unknown_law_lists_the_known_and_kaplan_has_no_closed_form() -> None:
    with pytest.raises(UsageFault, match="besiroglu-huber"):
        published("chinchila")
    with pytest.raises(UsageFault, match="no closed-form optimum"):
        closed_form("kaplan-t5", published("kaplan-t5").law)
