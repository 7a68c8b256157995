"""Numbers and claims of the papers that no other test of this package asserts; each is computed, none repeated."""

from __future__ import annotations

import math
import re

import manpages
import numpy as np
import pytest

from gpt2cli.scaling.critical_batch import estimate
from gpt2cli.scaling.diagnosis import MAX_CONDITION
from gpt2cli.scaling.fit import DEFAULT_DELTA, fit_surface
from gpt2cli.scaling.inference_aware import INFERENCE_FLOPS, TRAIN_FLOPS
from gpt2cli.scaling.isoflop import fit_isoflop
from gpt2cli.scaling.kaplan import ALPHA_S, CRITICAL_BATCH, S_C, SEPARATE, kaplan_allocation, kaplan_parameters
from gpt2cli.scaling.laws import FLOPS_PER_ND, PUBLISHED, ChinchillaLaw, published
from gpt2cli.scaling.optimum import optimum
from gpt2cli.sizes import SIZES, size_by_name

PAGE = manpages.MAN / "man1" / "gpt2-fit-scaling.1"


def words(section: str) -> str:
    return re.sub(r"\s+", " ", manpages.plain(manpages.sections(PAGE)[section]))


# Counting


@pytest.mark.parametrize(
    ("name", "total", "without_embeddings", "published_as"),
    [
        ("small", 124_439_808, 85_056_000, "117M"),
        ("medium", 354_823_168, 302_311_424, "345M"),
        ("large", 774_030_080, 708_390_400, "762M"),
        ("xl", 1_557_611_200, 1_475_561_600, "1542M"),
    ],
)
def test_counts_of_gpt2_and_the_names_that_are_none(
    name: str, total: int, without_embeddings: int, published_as: str
) -> None:
    shape = SIZES[name]
    assert (shape.n_params, shape.n_params_non_embedding) == (total, without_embeddings)
    assert size_by_name(published_as)[0] == name
    assert abs(total / (1e6 * float(published_as[:-1])) - 1) > 0.009, "a name, not the count"
    vectors = shape.n_layer * (4 + 9) * shape.n_embd + 2 * shape.n_embd
    assert without_embeddings - kaplan_parameters(shape.n_layer, shape.n_embd) == vectors, "biases and norms"


def test_flops_of_kaplan_and_of_palm_count_the_attention_half_and_full() -> None:
    shape, attention = SIZES["small"], 12 * 1024 * 768
    matrices = kaplan_parameters(12, 768) + 50_257 * 768
    assert shape.train_flops_per_token() == 6 * matrices + 6 * attention
    assert shape.train_flops_per_token(full_attention=True) == 6 * matrices + 12 * attention


# Kaplan


def test_constants_of_table_5_for_batch_and_steps() -> None:
    assert (CRITICAL_BATCH.B_star, CRITICAL_BATCH.alpha_B) == (2.1e8, 0.21)
    assert (ALPHA_S, S_C) == (0.76, 2.1e3)
    assert {law.E for law in SEPARATE.values()} == {0.0}, "none has an irreducible loss"


@pytest.mark.parametrize("batch", [1e4, 1e6, 3e7])
def test_compute_of_a_batch_is_its_least_times_one_and_b_over_b_crit(batch: float) -> None:
    """C_min = C/(1 + B/B_crit) and S_min = S/(1 + B_crit/B) are one law."""
    law, n, steps = PUBLISHED["kaplan-ns"].law, 1e9, 2e4
    loss = law.at_steps(n, steps, batch)  # type: ignore[union-attr]
    least = 6 * n * batch * steps / (1 + batch / CRITICAL_BATCH.at(loss))
    assert law.at_min_compute(n, least) == pytest.approx(loss, rel=1e-9)  # type: ignore[union-attr]


def test_joint_law_is_its_formula() -> None:
    n, d = 1e9, 3e10
    expected = ((6.4e13 / n) ** (0.076 / 0.103) + 1.8e13 / d) ** 0.103
    assert published("kaplan-t2").law.loss(n, d) == pytest.approx(expected, rel=1e-12)
    assert published("kaplan-t5").law.loss(n, math.inf) == pytest.approx(SEPARATE["n"].value(n))
    assert published("kaplan-t5").law.loss(math.inf, d) == pytest.approx(SEPARATE["d"].value(d))


# Chinchilla


@pytest.mark.parametrize("name", ["hoffmann", "hoffmann-unrounded", "besiroglu", "besiroglu-huber"])
def test_optimum_is_by_g(name: str) -> None:
    law = published(name).law
    assert isinstance(law, ChinchillaLaw)
    g = (law.alpha * law.A / (law.beta * law.B)) ** (1 / (law.alpha + law.beta))
    n = g * (1e21 / 6) ** (law.beta / (law.alpha + law.beta))
    best = optimum(law, 1e21)
    assert (best.n_opt, best.d_opt) == pytest.approx((n, 1e21 / 6 / n), rel=1e-9)
    assert FLOPS_PER_ND == 6


def test_exponents_of_the_three_approaches() -> None:
    """Approaches 1 and 2 of the paper, .50 and .49, are profiles that grow so; approach 3 is its law."""
    for exponent in (0.50, 0.49):
        budgets, widths = np.repeat(np.geomspace(1e18, 1e22, 5), 7), np.tile(np.linspace(-1, 1, 7), 5)
        n = 0.1 * budgets**exponent * np.exp(widths)
        found = fit_isoflop(n, budgets / 6 / n, 2 + 0.03 * widths**2 + 1e3 * budgets**-0.15)
        assert found.line is not None and found.line.exponent == pytest.approx(exponent, abs=1e-9)
    law = published("hoffmann-unrounded").law
    assert isinstance(law, ChinchillaLaw)
    assert round(law.beta / (law.alpha + law.beta), 2) == 0.46
    muennighoff = published("muennighoff").law
    growth = math.log10(optimum(muennighoff, 1e22).n_opt / optimum(muennighoff, 1e21).n_opt)
    assert growth == pytest.approx(0.5, abs=1e-6), "alpha = beta"


def test_objective_is_a_sum_with_hubers_threshold() -> None:
    assert DEFAULT_DELTA == 1e-3
    n, d = (axis.ravel() for axis in np.meshgrid(np.geomspace(1e7, 1e9, 5), np.geomspace(1e9, 1e11, 5)))
    loss = published("besiroglu").law.loss(n, d) * np.exp(np.random.default_rng(0).normal(size=n.size) * 0.005)
    once, twice = fit_surface(n, d, loss), fit_surface(np.tile(n, 2), np.tile(d, 2), np.tile(loss, 2))
    assert twice.objective == pytest.approx(2 * once.objective, rel=1e-9), "a mean would stay"


# Others


def test_flops_of_training_and_of_use() -> None:
    assert (TRAIN_FLOPS, INFERENCE_FLOPS) == (6, 2)


def test_gradient_noise_by_its_formula() -> None:
    small, large, g_small, g_large = 64.0, 1024.0, 9.0, 2.0
    squared, trace = estimate(small, large, g_small, g_large)
    assert squared == pytest.approx((large * g_large - small * g_small) / (large - small))
    assert trace == pytest.approx((g_small - g_large) / (1 / small - 1 / large))


def test_limit_of_the_condition_number_stands_in_the_manual() -> None:
    assert MAX_CONDITION == 100
    assert "Healthy public sets have 27 to 62; above 100 the fit is refused" in words("HOW TO READ THE REPORT")
    assert "D spanning less than eight times is a warning" in words("HOW TO READ THE REPORT")


@pytest.mark.parametrize(
    "said",
    [
        "Ten times the parameters lower the loss by 5 %",
        "The critical batch size falls as the loss falls",
        "6 N B S / 1e15 is compute in PF-days",
        "N should grow as D^0.74",
        "N = 0.3 C^0.73, D = 3.2 C^0.27",
        "The law predicted 2.15 for GPT-3, which used 300 PF-days",
        "Bits per character are log2(PPL) log 2 / characters",
        "GPT-2 XL would need 750B tokens",
        f"Kaplan's exponent of {math.log10(kaplan_allocation(1e21).n / kaplan_allocation(1e20).n):.2f} against "
        "Chinchilla's 0.50 comes mostly from not counting the embedding and head",
        "too long a warm-up and from untuned learning rates",
    ],
)
def test_what_is_wrongly_repeated_is_named_as_such(said: str) -> None:
    assert said in words("WHERE POPULAR SUMMARIES DIFFER")


def test_wrong_statements_are_wrong_by_the_laws() -> None:
    assert 1 - SEPARATE["n"].value(10) / SEPARATE["n"].value(1) > 3 * 0.05
    assert CRITICAL_BATCH.at(2) > CRITICAL_BATCH.at(3) > CRITICAL_BATCH.at(4)
    gpt3 = [published(name).law.loss(175e9, 300e9) for name in ("kaplan-t5", "kaplan-t2")]
    assert max(gpt3) < 2.15 - 0.4
    assert 6 * 175e9 * 300e9 / 8.64e19 > 12 * 300
