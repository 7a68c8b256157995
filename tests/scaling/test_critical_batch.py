"""The gradient noise scale from simulated gradients, and what a batch costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpt2cli.errors import BadInput
from gpt2cli.records.jsonl import encode_record
from gpt2cli.reporter import Silent
from gpt2cli.scaling.critical_batch import FIELDS, averages, cost, estimate, measured


def write_steps(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_bytes(b"".join(
        encode_record("gpt2.step", {"run": "r", "step": i, "tokens": i, "flops": i, "loss_nats": 3.0, "lr": 1e-3,
                                    "lr_phase": "stable", "grad_norm": 1.0, **row})
        for i, row in enumerate(rows, 1)
    ))  # fmt: skip
    return path


def simulated(steps: int, small: int, large: int, trace: float, squared: float, seed: int) -> list[dict[str, Any]]:
    """Gradients of 500 parameters: a true one with |G|^2 `squared` and noise of covariance trace `trace` per token."""
    random = np.random.default_rng(seed)
    true = np.full(500, (squared / 500) ** 0.5)
    rows = []
    for _ in range(steps):
        parts = true + random.standard_normal((large // small, 500)) * (trace / 500 / small) ** 0.5
        rows.append(dict(zip(FIELDS, (small, large, float((parts**2).sum(1).mean()), float((parts.mean(0) ** 2).sum())),
                             strict=True)))  # fmt: skip
    return rows


def test_estimates_are_exact_for_expected_norms() -> None:
    trace, squared = 5.0e4, 0.25
    norms = [squared + trace / batch for batch in (1e3, 1.6e4)]
    assert estimate(1e3, 1.6e4, *norms) == pytest.approx((squared, trace))


def test_noise_scale_of_a_simulated_run(tmp_path: Path) -> None:
    path = write_steps(tmp_path / "metrics.jsonl", simulated(400, 1000, 16_000, 5e4, 0.25, seed=3))
    (found,) = measured([str(path)], 1e9, Silent())
    assert (found.run, found.step, found.measurements, found.loss) == ("r", 400, 400, 3.0)
    assert found.noise_scale == pytest.approx(5e4 / 0.25, rel=0.1)
    assert found.noise_scale == pytest.approx(found.trace / found.gradient_squared)


def test_numerator_and_denominator_are_averaged_apart(tmp_path: Path) -> None:
    rows = simulated(50, 100, 400, 5e4, 0.25, seed=1)
    ratios = [trace / squared for squared, trace in (estimate(*(row[name] for name in FIELDS)) for row in rows)]
    (found,) = measured([str(write_steps(tmp_path / "m.jsonl", rows))], 1e9, Silent())
    assert found.noise_scale != pytest.approx(float(np.mean(ratios)), rel=0.05)


def test_moving_average_forgets_by_its_half_life() -> None:
    assert averages([0.0, 1.0], half_life=1) == pytest.approx([0, 2 / 3])
    assert averages([5.0] * 30, half_life=2) == pytest.approx([5.0] * 30)
    values = np.random.default_rng(0).random(400)
    weights = 0.5 ** (np.arange(299, -1, -1) / 7)
    assert averages(values, half_life=7)[299] == pytest.approx(np.average(values[:300], weights=weights))


def test_the_start_of_a_run_does_not_outweigh_its_end() -> None:
    """A gradient a thousand times larger at first: the average at the end is of the end, unless told otherwise."""
    values = [1000.0] * 5 + [1.0] * 95
    assert averages(values)[-1] == pytest.approx(1.0, abs=0.01)
    assert averages(values, half_life=100)[-1] > 20
    noise = 1 + np.random.default_rng(1).standard_normal(4000)  # a long run averages over many
    assert averages(noise)[-1] == pytest.approx(1, abs=4 / (2 * 100 / np.log(2)) ** 0.5)


def test_estimates_are_unbiased_whatever_the_small_batch() -> None:
    """Of 3,000 simulated steps the means lie within four of their standard errors of the truth, and are no accident."""
    for small, large, seed in ((64, 128, 0), (64, 1024, 1), (512, 1024, 2)):
        rows = simulated(3000, small, large, 5e3, 0.5, seed)
        pairs = np.array([estimate(*(row[name] for name in FIELDS)) for row in rows])
        errors = pairs.std(axis=0, ddof=1) / len(pairs) ** 0.5
        assert (np.abs(pairs.mean(axis=0) - (0.5, 5e3)) < 4 * errors).all()
        assert (errors < (0.1, 100)).all()


def test_a_sample_of_the_small_batches_is_unbiased_too() -> None:
    """As train measures: 16 of the 64 sequences of a batch, of unequal noise."""
    random = np.random.default_rng(5)
    true, pairs = np.full(300, 0.1), []
    for _ in range(2000):
        spread = random.choice([0.2, 2.0], size=(64, 1))
        parts = true + random.standard_normal((64, 300)) * spread
        norms = float((parts[:16] ** 2).sum(1).mean()), float((parts.mean(0) ** 2).sum())
        pairs.append(estimate(32, 2048, *norms))
    means, errors = np.mean(pairs, axis=0), np.std(pairs, axis=0) / 2000**0.5
    assert (np.abs(means - (3.0, 32 * 300 * (0.04 + 4) / 2)) < 4 * errors).all()
    assert (errors < 0.02 * means).all()


def test_a_step_met_twice_counts_once(tmp_path: Path) -> None:
    rows = simulated(20, 100, 400, 5e2, 0.25, seed=1)
    path = write_steps(tmp_path / "m.jsonl", rows)
    assert measured([str(path), str(path)], None, Silent()) == measured([str(path)], None, Silent())


def test_a_gradient_below_its_noise_has_no_ratio(tmp_path: Path) -> None:
    rows = [dict(zip(FIELDS, (100, 400, 40.0, 9.0), strict=True))]
    (found,) = measured([str(write_steps(tmp_path / "m.jsonl", rows))], 100, Silent())
    assert found.noise_scale is None and found.gradient_squared < 0


@pytest.mark.parametrize("change", [{FIELDS[1]: 50}, {FIELDS[2]: None}, {FIELDS[3]: -1.0}, {FIELDS[0]: True}])
def test_no_measurement_is_bad_input(tmp_path: Path, change: dict[str, Any]) -> None:
    rows = [{**dict(zip(FIELDS, (100, 400, 1.0, 0.5), strict=True)), **change}]
    with pytest.raises(BadInput, match="step 1"):
        measured([str(write_steps(tmp_path / "m.jsonl", rows))], 100, Silent())


def test_steps_without_the_fields_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="measures the gradient noise"):
        measured([str(write_steps(tmp_path / "m.jsonl", [{}, {}]))], 100, Silent())


def test_cost_of_a_batch() -> None:
    at = cost(1e6, 1e6)
    assert (at.steps_factor, at.tokens_factor) == (2.0, 2.0)
    assert (cost(1e9, 1e6).steps_factor, cost(1e3, 1e6).tokens_factor) == pytest.approx((1.001, 1.001))
