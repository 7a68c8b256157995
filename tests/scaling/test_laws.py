"""Published laws against the check values of their papers."""

from __future__ import annotations

import numpy as np
import pytest

from gpt2cli.errors import UsageFault
from gpt2cli.scaling.laws import PUBLISHED, ChinchillaLaw, published
from gpt2cli.scaling.optimum import optimum

GOPHER_BUDGET = 5.76e23


@pytest.mark.parametrize(
    ("name", "n", "d"),
    [("hoffmann", 32.2e9, 2.98e12), ("hoffmann-unrounded", 40.4e9, 2.38e12), ("besiroglu", 72.2e9, 1.33e12)],
)
def test_optimum_at_the_chinchilla_budget(name: str, n: float, d: float) -> None:
    best = optimum(published(name).law, GOPHER_BUDGET)
    assert best.n_opt == pytest.approx(n, rel=2e-3)
    assert best.d_opt == pytest.approx(d, rel=2.5e-3)
    assert 6 * best.n_opt * best.d_opt == pytest.approx(GOPHER_BUDGET, rel=1e-12)


@pytest.mark.parametrize("name", [name for name, entry in PUBLISHED.items() if isinstance(entry.law, ChinchillaLaw)])
@pytest.mark.parametrize("flops", [1e17, 1e21, 1e25])
def test_no_other_split_of_the_budget_is_better(name: str, flops: float) -> None:
    law = published(name).law
    assert isinstance(law, ChinchillaLaw)
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


def test_every_law_of_the_issue_is_there_with_its_source() -> None:
    assert list(PUBLISHED) == [
        "hoffmann",
        "hoffmann-unrounded",
        "besiroglu",
        "besiroglu-huber",
        "kaplan-t5",
        "kaplan-t2",
        "kaplan-ns",
        "muennighoff",
    ]
    for name, entry in PUBLISHED.items():
        assert "arXiv" in entry.source
        assert entry.count == ("non-embedding" if name.startswith("kaplan") else "total")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("hoffmann", (1.69, 406.4, 410.7, 0.34, 0.28)),
        ("besiroglu", (1.8172, 482.01, 2085.43, 0.3478, 0.3658)),
        ("besiroglu-huber", (1.81722, 477.83, 2143.4, 0.34731, 0.36717)),
    ],
)
def test_constants_as_published(name: str, values: tuple[float, ...]) -> None:
    law = published(name).law
    assert isinstance(law, ChinchillaLaw)
    assert tuple(law.array()) == values


def test_unrounded_constants_are_printed_as_logarithms() -> None:
    law = published("hoffmann-unrounded").law
    assert isinstance(law, ChinchillaLaw)
    assert np.log(law.array()[:3]) == pytest.approx([0.5267228, 6.0073404, 6.0179186], rel=1e-12)
    assert (law.alpha, law.beta) == (0.33917084, 0.2849083)


@pytest.mark.parametrize(("name", "exponent"), [("hoffmann", 0.46), ("hoffmann-unrounded", 0.46)])
def test_exponent_of_n_with_compute(name: str, exponent: float) -> None:
    law = published(name).law
    power = np.log10(optimum(law, 1e22).n_opt / optimum(law, 1e21).n_opt)
    assert power == pytest.approx(exponent, abs=0.01)


@pytest.mark.parametrize(("name", "tokens"), [("besiroglu", 33), ("hoffmann", 72)])
def test_1_5b_parameters_need_33b_to_72b_tokens(name: str, tokens: int) -> None:
    """Not 750B, as is said of GPT-2 XL: D of the budget whose optimum has 1.5B parameters."""
    law = published(name).law
    budgets = [optimum(law, float(flops)) for flops in np.geomspace(1e19, 1e23, 4001)]
    nearest = min(budgets, key=lambda one: abs(np.log(one.n_opt / 1.5e9)))
    assert round(nearest.d_opt / 1e9) == tokens


def test_unknown_law_lists_the_known() -> None:
    with pytest.raises(UsageFault, match=r"besiroglu-huber.*kaplan-ns, muennighoff"):
        published("chinchila")
