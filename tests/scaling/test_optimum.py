"""Optima by search against closed forms and brute force; real networks; inference-aware sizes; strategies."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from gpt2cli.errors import UsageFault
from gpt2cli.scaling.architectures import evaluate, flatness, networks
from gpt2cli.scaling.data_constrained import DataConstrainedLaw, effective
from gpt2cli.scaling.inference_aware import for_life, size_of_quality
from gpt2cli.scaling.laws import PUBLISHED, ChinchillaLaw, published
from gpt2cli.scaling.optimum import least_compute, optimum, search, tokens_for
from gpt2cli.scaling.strategies import strategies
from gpt2cli.sizes import SIZES, ModelShape

HOFFMANN = PUBLISHED["hoffmann"].law
SARDANA = ChinchillaLaw(1.69, 406.4, 410.7, 0.336, 0.283)
"""The constants of 2401.00448."""


@pytest.mark.parametrize("flops", [1e15, 1e20, 5.76e23])
def test_search_finds_what_the_closed_form_says(flops: float) -> None:
    closed = optimum(HOFFMANN, flops)
    n, loss = search(HOFFMANN.loss, flops)
    assert n == pytest.approx(closed.n_opt, rel=1e-5)
    assert loss == pytest.approx(closed.loss, rel=1e-13)


@pytest.mark.parametrize("name", ["kaplan-t5", "kaplan-t2", "kaplan-ns", "muennighoff"])
def test_no_other_split_is_better_for_any_law(name: str) -> None:
    law = published(name).law
    best = optimum(law, 1e21)
    sizes = best.n_opt * np.geomspace(0.01, 100, 1001)
    assert best.loss <= law.loss(sizes, 1e21 / 6 / sizes).min() + 1e-12
    assert 6 * best.n_opt * best.d_opt == pytest.approx(1e21)


def test_a_law_that_falls_to_one_end_has_no_optimum() -> None:
    class Size:
        form = "N^-0.1"

        def loss(self, n: float, d: float) -> float:
            return np.asarray(n) ** -0.1 + 0 * np.asarray(d)  # type: ignore[no-any-return]

    with pytest.raises(UsageFault, match="no optimum"):
        optimum(Size(), 1e20)


@pytest.mark.parametrize("name", ["besiroglu", "kaplan-t2", "muennighoff"])
def test_inverses(name: str) -> None:
    law = published(name).law
    best = optimum(law, 1e21)
    assert least_compute(law, best.loss) == pytest.approx(1e21, rel=1e-6)
    assert tokens_for(law, best.n_opt, best.loss) == pytest.approx(best.d_opt, rel=1e-6)
    assert tokens_for(law, 1e3, best.loss) == math.inf
    assert name != "besiroglu" or least_compute(law, 1.8) is None, "below E"


def test_muennighoff_repeats() -> None:
    law = PUBLISHED["muennighoff"].law
    assert isinstance(law, DataConstrainedLaw)
    assert (law.R_D_star, law.R_N_star, law.alpha, law.beta) == (15.387756, 5.309743, 0.3526596, 0.3526596)
    assert [math.log(value) for value in (law.E, law.A, law.B)] == pytest.approx([0.6254804, 6.255414, 7.3049974])
    few = replace(law, unique=1e10)
    assert few.loss(1e8, 1e10) == law.loss(1e8, 1e10), "nothing repeated, nothing lost"
    assert law.loss(1e8, 4e10) < few.loss(1e8, 4e10) < few.loss(1e8, 1e10)
    repetitions = 3.0
    worth = 1e10 + 1e10 * 15.387756 * (1 - math.exp(-repetitions / 15.387756))
    assert effective(4e10, 1e10, 15.387756) == pytest.approx(worth)
    assert effective(1e30, 1e10, 15.387756) == pytest.approx(1e10 * (1 + 15.387756)), "all repetition is worth this"
    ample = optimum(law, 6 * few.unique_parameters() * 1e10)
    assert (ample.n_opt, ample.d_opt) == pytest.approx((few.unique_parameters(), 1e10), rel=1e-5)


def test_scarce_data_make_the_optimum_train_for_more_passes() -> None:
    law = PUBLISHED["muennighoff"].law
    assert isinstance(law, DataConstrainedLaw)
    rich, poor = optimum(law, 1e22), optimum(replace(law, unique=1e10), 1e22)
    assert poor.loss > rich.loss
    assert poor.d_opt > rich.d_opt > 1e10, "excess parameters fade sooner (R_N 5.3) than repeated tokens (R_D 15.4)"


@pytest.mark.parametrize(
    ("quality", "tokens", "n", "ratio", "saved"), [(30e9, 1e13, 13.6e9, 2.84, 0.28), (7e9, 1e11, 6.0e9, 1.18, 0.0085)]
)
def test_sardana_numbers(quality: float, tokens: float, n: float, ratio: float, saved: float) -> None:
    best, plain = for_life(SARDANA, size_of_quality(SARDANA, quality), tokens)
    assert plain.n == pytest.approx(quality, rel=1e-6)
    assert best.n == pytest.approx(n, rel=5e-3)
    assert best.d / plain.d == pytest.approx(ratio, abs=5e-3)
    assert 1 - best.total / plain.total == pytest.approx(saved, abs=2e-3)
    assert SARDANA.loss(best.n, best.d) == pytest.approx(SARDANA.loss(plain.n, plain.d), rel=1e-12)
    assert best.total == 6 * best.n * best.d + 2 * best.n * tokens


def test_without_use_the_training_optimum_stays() -> None:
    best, plain = for_life(HOFFMANN, 2.2, 0.0)
    assert best.n == pytest.approx(plain.n, rel=1e-3)
    with pytest.raises(UsageFault, match="floor"):
        for_life(HOFFMANN, 1.6, 1e9)


def test_flops_in_both_conventions() -> None:
    shape = SIZES["xl"]
    matrices = 6 * (12 * 48 * 1600**2 + 50_257 * 1600)
    assert shape.train_flops_per_token() == matrices + 6 * 48 * 1024 * 1600
    assert shape.train_flops_per_token(full_attention=True) == matrices + 12 * 48 * 1024 * 1600


@pytest.mark.parametrize(("name", "share"), [("small", 31.6), ("medium", 14.8), ("large", 8.5), ("xl", 5.3)])
def test_share_of_the_embeddings(name: str, share: float) -> None:
    shape = SIZES[name]
    assert 100 * (1 - shape.n_params_non_embedding / shape.n_params) == pytest.approx(share, abs=0.06)


@pytest.fixture(scope="module")
def shapes() -> list[ModelShape]:
    return list(networks(1024, 50257))


def test_networks_are_a_grid_of_real_shapes(shapes: list[ModelShape]) -> None:
    assert all(32 <= shape.n_embd / shape.n_layer <= 128 and shape.n_embd % shape.n_head == 0 for shape in shapes)
    assert len({(shape.n_layer, shape.n_embd) for shape in shapes}) == len(shapes)
    for name, shape in SIZES.items():
        known = {(one.n_layer, one.n_embd) for one in shapes}
        assert (shape.n_layer, shape.n_embd) in known, name


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("count", ["total", "non-embedding"])
def test_best_network_of_a_budget(shapes: list[ModelShape], count: str, full: bool) -> None:
    ranked = evaluate(HOFFMANN, 1e20, shapes[:20_000:3], count=count, full_attention=full)
    best = ranked[0]
    assert best.d * best.shape.train_flops_per_token(full_attention=full) == pytest.approx(1e20)
    assert best.n == (best.shape.n_params if count == "total" else best.shape.n_params_non_embedding)
    assert best.loss == pytest.approx(HOFFMANN.loss(best.n, best.d))
    assert [one.loss for one in ranked[:500]] == sorted(one.loss for one in ranked[:500])
    brute = min(float(HOFFMANN.loss(one.n, one.d)) for one in ranked)
    assert best.loss == pytest.approx(brute, rel=1e-12)
    near = flatness(ranked, 0.01)
    assert near.n[0] < best.n / 1.8 and near.n[1] > best.n * 1.8, "half or twice the size costs under 1 %"
    assert near.networks == sum(one.loss <= best.loss * 1.01 for one in ranked)


def test_budget_below_one_context_is_refused() -> None:
    with pytest.raises(UsageFault, match="not one context"):
        evaluate(HOFFMANN, 1e6, [ModelShape(1, 1, 32)], count="total", full_attention=False)


def test_strategies_are_ranked_and_priced() -> None:
    law = PUBLISHED["besiroglu"].law
    found = {one.name: one for one in strategies(law, 5.76e23)}
    assert next(iter(found)) == "the law's optimum" and found["the law's optimum"].wasted == 0
    assert found["optimum of hoffmann"].n == pytest.approx(32.2e9, rel=2e-3)
    assert found["20 tokens a parameter"].d / found["20 tokens a parameter"].n == pytest.approx(20)
    for one in found.values():
        assert one.flops == pytest.approx(5.76e23)
        assert one.least is not None and optimum(law, one.least).loss == pytest.approx(one.loss, rel=1e-9)
    chosen = strategies(law, 1e21, sizes=[1e9], tokens_per_parameter=[100])
    assert {one.name for one in chosen} == {"the law's optimum", "N = 1e+09", "100 tokens a parameter"}
    with pytest.raises(UsageFault, match="not one token"):
        strategies(law, 1e6, sizes=[1e9])
