"""Intervals of stop, compare and inference: those of the verb's own answer to each resample, one by one."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from in_process import gpt2_here  # noqa: F401  (a fixture)

from gpt2cli.records.jsonl import ReadTally, read_records
from gpt2cli.scaling.early_stopping import early_stop
from gpt2cli.scaling.fitted_law import AnyLaw, law_of
from gpt2cli.scaling.inference_aware import for_life, size_of_quality
from gpt2cli.scaling.optimum import optimum
from gpt2cli.scaling.resampled_answers import (
    best_losses,
    lifetime_intervals,
    losses_of_quality,
    losses_to_reach,
    stop_intervals,
    strategy_intervals,
)
from gpt2cli.scaling.strategies import strategies
from gpt2cli.scaling.uncertainty import Bootstrap

Gpt2 = Callable[..., "subprocess.CompletedProcess[bytes]"]
TRUTH = {"chinchilla": (1.69, 406.4, 410.7, 0.34, 0.28), "kaplan-nd": (6.4e13, 1.8e13, 0.076, 0.103)}


def resampled(name: str, rows: int = 9) -> tuple[Bootstrap, list[AnyLaw]]:
    spread = np.exp(0.02 * np.random.default_rng(3).standard_normal((rows, len(TRUTH[name]))))
    parameters = np.array(TRUTH[name]) * spread
    # of nine values the 95 % percentiles are the least and the greatest
    return Bootstrap(parameters, rows, rows, 0, law=name), [law_of(name, row) for row in parameters]


def ends(values: list[float]) -> list[float]:
    return [min(values), max(values)]


@pytest.mark.parametrize("name", TRUTH)
@pytest.mark.parametrize("batch", [None, 5e5])
def test_stops(name: str, batch: float | None) -> None:
    boot, laws = resampled(name)
    found = [early_stop(law, 1e8, 3e8, batch) for law in laws]
    spread = stop_intervals(boot, 1e8, 3e8, batch)
    assert spread["steps_interval"] == pytest.approx(ends([one.steps for one in found]))
    assert spread["s_min_interval"] == pytest.approx(ends([one.s_min for one in found]))
    assert spread["tokens_interval"] == pytest.approx(ends([one.tokens for one in found]))
    assert spread["gap_nats_interval"] == pytest.approx(ends([one.gap for one in found]))
    assert spread["loss_nats_interval"] == pytest.approx(ends([one.loss for one in found]))


@pytest.mark.parametrize("name", TRUTH)
def test_strategies(name: str) -> None:
    boot, laws = resampled(name)
    ways = strategies(law_of(name, np.array(TRUTH[name])), 1e20, [1e8, 3e9], [20.0])
    spread = strategy_intervals(boot, 1e20, ways)
    for way, found in zip(ways, spread, strict=True):
        each = [next(one for one in strategies(law, 1e20, [way.n]) if one.n == way.n and one.name.startswith("N ="))
                for law in laws]  # fmt: skip
        assert found["loss_nats_interval"] == pytest.approx(ends([one.loss for one in each]))
        least, wasted = (ends([float(getattr(one, field)) for one in each]) for field in ("least", "wasted"))
        assert found["flops_for_same_loss_interval"] == pytest.approx(least, rel=1e-3)
        assert found["wasted_interval"] == pytest.approx(wasted, abs=1e-3)


@pytest.mark.parametrize("name", TRUTH)
def test_lifetimes(name: str) -> None:
    boot, laws = resampled(name)
    qualities = losses_of_quality(boot, 3e8)
    assert qualities == pytest.approx([size_of_quality(law, 3e8) for law in laws], rel=1e-7)
    assert best_losses(boot, 1e20) == pytest.approx([optimum(law, 1e20).loss for law in laws])
    assert (losses_to_reach(boot, None, 3e8, None) == qualities).all()
    assert set(losses_to_reach(boot, 2.5, None, None)) == {2.5}
    found = [for_life(law, loss, 1e11) for law, loss in zip(laws, qualities, strict=True)]
    spread = lifetime_intervals(boot, qualities, 1e11, 3e8)
    assert spread["n_interval"] == pytest.approx(ends([best.n for best, _ in found]), rel=1e-3)
    assert spread["d_interval"] == pytest.approx(ends([best.d for best, _ in found]), rel=1e-3)
    assert spread["flops_interval"] == pytest.approx(ends([best.total for best, _ in found]), rel=1e-6)
    assert spread["saved_interval"] == pytest.approx(ends([1 - best.total / plain.total for best, plain in found]),
                                                     abs=1e-5)  # fmt: skip


def test_what_a_resample_never_reaches_is_without_limit() -> None:
    boot, _ = resampled("chinchilla")
    floor = float(np.sort(boot.parameters[:, 0])[4])
    spread = lifetime_intervals(boot, losses_to_reach(boot, floor, None, None), 1e9, 1e8)
    assert spread["n_interval"] is not None and spread["n_interval"][1] is None
    flat = Bootstrap(boot.parameters * (1, 1, 0, 1, 1), 9, 9, 0)
    assert stop_intervals(flat, 1e8, 1e8, None)["steps_interval"] == [None, None]
    assert strategy_intervals(flat, 1e20, strategies(law_of("chinchilla", np.array(TRUTH["chinchilla"])), 1e20, [1e8]))[
        0]["wasted_interval"] == [None, None]  # fmt: skip
    none = Bootstrap(np.empty((0, 5)), 9, 9, 0)
    assert set(stop_intervals(none, 1e8, 1e8, None).values()) == {None}
    assert math.isnan(best_losses(flat, 1e20)[0])


def test_verbs_answer_a_fit_with_intervals_and_a_published_law_without(
    gpt2_here: Gpt2, ladder_metrics: Path, tmp_path: Path  # noqa: F811
) -> None:
    path = tmp_path / "fit.jsonl"
    gpt2_here("fit-scaling", ladder_metrics, "-q", "--bootstrap", 60, "-o", path, check=True)
    for words, fields in (
        (("stop", "--n", "10M", "--d", "1M"), ("steps", "tokens", "gap_nats", "loss_nats")),
        (("compare", "--flops", "1e18"), ("loss_nats",)),
        (("inference", "--flops", "1e18", "--inference-tokens", "10B"), ("n", "d", "flops", "loss_nats")),
        (("inference", "--quality-of", "20M", "--inference-tokens", "1B"), ("n", "d", "flops", "loss_nats")),
    ):
        output = tmp_path / "answer.jsonl"
        done = gpt2_here("fit-scaling", *words, "--fit", path, "-f", "-o", output, check=True)
        assert b"95 % interval" in done.stderr
        for record in read_records(str(output), ReadTally(), kinds=("gpt2.plan",)):
            for field in fields:
                low, high = record[f"{field}_interval"]
                assert low < record[field] * (1 + 1e-6) and (high is None or record[field] < high * (1 + 1e-6)), field
        bare = gpt2_here("fit-scaling", *words, "--law", "hoffmann", check=True)
        assert b"interval" not in bare.stderr and b"_interval" not in bare.stdout
