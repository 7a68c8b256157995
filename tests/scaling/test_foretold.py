"""Runs beside what a law foretold: the intervals of one run, and what is no test or cannot be compared."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_process import gpt2_here as gpt2_here

from gpt2cli.errors import BadInput
from gpt2cli.records.jsonl import encode_record
from gpt2cli.scaling.foretold import NORMAL_95, _widened, foretell, run_error
from gpt2cli.scaling.laws import published
from gpt2cli.scaling.observations import Observations
from gpt2cli.scaling.saved import known_law
from gpt2cli.scaling.study import FitConfig, fit_observations

Gpt2 = Callable[..., Any]
LAW = published("hoffmann").law
N, D = (axis.ravel() for axis in np.meshgrid(np.geomspace(1e6, 6.4e7, 5), np.geomspace(2e7, 2e9, 5)))


def runs(n: np.ndarray, d: np.ndarray, loss: np.ndarray) -> Observations:
    names = tuple(f"r{i:02d}" for i in range(len(n)))
    return Observations(n, d, loss, np.full(len(n), np.nan), names, np.arange(len(n)), "total")


def metrics(path: Path, rows: list[tuple[str, float, float, float]], **fields: Any) -> Path:
    lines = []
    for run, n, d, loss in rows:
        lines += [
            encode_record("gpt2.run", {
                "run": run, "config": {}, "seed": 0, "n_params": int(n), "n_params_non_embedding": int(n), "n_layer": 2,
                "n_embd": 64, "n_head": 2, "n_ctx": 32, "n_vocab": 512, "tokenizer_sha256": "0" * 64,
                "data_sha256": "0" * 64, "versions": {}, **fields}),
            encode_record("gpt2.eval", {
                "run": run, "step": int(d) // 1000, "tokens": int(d), "flops": 6 * n * d, "lr_phase": "done",
                "split": "val", "nll_nats_per_token": loss, "ppl": math.exp(loss), "n_tokens": 1000, "protocol": {},
                "val_sha256": "1" * 64}),
        ]  # fmt: skip
    path.write_bytes(b"".join(lines))
    return path


def test_the_interval_of_a_run_covers_runs_ahead() -> None:
    """Of 60 noisy ladders, the 95 % interval of a run of ten times the compute covers at least 52."""
    covered = narrow = 0
    for seed in range(60):
        noise = np.random.default_rng(seed).normal(size=N.size + 1) * 0.006
        loss = np.asarray(LAW.loss(N, D)) * np.exp(noise[1:])
        record = fit_observations(runs(N, D, loss), FitConfig(("-",), resamples=60)).record()
        known = known_law(json.loads(json.dumps(record)), "fit")
        ahead = np.array([2e8]), np.array([6.3e9])
        measured = np.asarray(LAW.loss(*ahead)) * math.exp(noise[0])
        (one,) = foretell(known, runs(*ahead, measured), run_error(record), frozenset())
        covered += bool(one.inside)
        assert one.law_interval is not None and one.run_interval is not None
        assert one.run_interval[0] <= one.law_interval[0] <= one.law_interval[1] <= one.run_interval[1]
        narrow += one.run_interval[1] / one.run_interval[0] < 1.25
    assert covered >= 52 and narrow >= 50


def test_the_interval_of_a_run_is_both_errors_in_quadrature() -> None:
    record = fit_observations(runs(N, D, np.asarray(LAW.loss(N, D))), FitConfig(("-",), resamples=50)).record()
    known = known_law(json.loads(json.dumps(record)), "fit")
    (one,) = foretell(known, runs(np.array([1e8]), np.array([2e9]), np.array([2.5])), 0.02, frozenset({"r00"}))
    assert one.predicted == pytest.approx(float(LAW.loss(1e8, 2e9)), rel=1e-5)
    assert one.run_interval is not None and one.fitted and one.inside is False
    assert math.log(one.run_interval[1] / one.predicted) == pytest.approx(NORMAL_95 * 0.02, rel=1e-3)
    assert one.error == pytest.approx(one.predicted / 2.5 - 1)


def test_the_error_of_a_run_is_that_of_those_held_out_else_of_the_residuals() -> None:
    plain = {"n_observations": 9, "n_parameters": 5, "rms_log_residual": 0.004}
    assert run_error({"diagnosis": {**plain, "rolling_origin": {"rms_log_error": 0.02}}}) == 0.02
    assert run_error({"diagnosis": {**plain, "rolling_origin": {"rms_log_error": None}}}) == pytest.approx(0.006)
    assert run_error({"diagnosis": {**plain, "n_parameters": 9}}) == pytest.approx(0.012)
    assert run_error({}) is None
    for damaged in ({"diagnosis": {"rms_log_residual": "x", "n_observations": 3, "n_parameters": 1}}, {"diagnosis": 3},
                    {"diagnosis": {**plain, "rolling_origin": {"rms_log_error": -1}}},
                    {"diagnosis": {**plain, "rolling_origin": {"rms_log_error": float("nan")}}}):  # fmt: skip
        with pytest.raises(BadInput, match="diagnosis is damaged"):
            run_error(damaged)


@pytest.fixture
def fit(gpt2_here: Gpt2, tmp_path: Path) -> Path:
    rows = [(f"r{i}", n, d, float(LAW.loss(n, d)) * (1 + 0.004 * (-1) ** i))
            for i, (n, d) in enumerate(zip(N, D, strict=True))]  # fmt: skip
    path = tmp_path / "fit.jsonl"
    gpt2_here("fit-scaling", metrics(tmp_path / "m.jsonl", rows), "-q", "--bootstrap", 100, "-o", path, check=True)
    return path


def test_runs_in_a_file_are_set_beside_the_fit(gpt2_here: Gpt2, fit: Path, tmp_path: Path) -> None:
    ahead = float(LAW.loss(3e8, 3e9))
    rows = [("big", 3e8, 3e9, ahead), ("odd", 3e8, 3e9, 1.2 * ahead), ("r3", N[3], D[3], 3.0)]
    done = gpt2_here("fit-scaling", "predict", metrics(tmp_path / "held.jsonl", rows), "--fit", fit, check=True)
    found = {one["run"]: one for one in map(json.loads, done.stdout.splitlines()[:-1])}
    assert found["big"]["inside"] is True and abs(found["big"]["error"]) < 0.02
    assert found["odd"]["inside"] is False and not found["odd"]["fitted"] and found["r3"]["fitted"]
    assert found["big"]["kind"] == "run-beside-law" and found["big"]["measured_nats"] == pytest.approx(ahead)
    words = done.stderr.decode()
    assert "OUTSIDE" in words and "inside" in words and "r3 is among the runs that the law was fitted to" in words


def test_a_fit_that_counts_something_else_is_refused(gpt2_here: Gpt2, fit: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.jsonl"
    damaged.write_bytes(fit.read_bytes().replace(b'"count":"total"', b'"count":"layers"'))
    done = gpt2_here("fit-scaling", "predict", metrics(tmp_path / "a.jsonl", [("a", 1e8, 2e9, 3.0)]), "--fit", damaged)
    assert done.returncode == 65 and b"which parameters N counts" in done.stderr


def test_an_interval_without_end_stays_without_end() -> None:
    assert _widened(2.0, (1.9, math.inf), 0.01)[1] == math.inf
    assert _widened(2.0, (0.0, 2.1), 0.01)[0] == 0.0


def test_runs_beside_a_published_law_have_no_interval(gpt2_here: Gpt2, tmp_path: Path) -> None:
    path = metrics(tmp_path / "m.jsonl", [("a", 1e8, 2e9, 3.0)])
    done = gpt2_here("fit-scaling", "predict", path, "--law", "hoffmann", check=True)
    one = json.loads(done.stdout.splitlines()[0])
    assert one["run_interval"] is None and one["inside"] is None
    assert one["loss_nats"] == pytest.approx(float(LAW.loss(1e8, 2e9)))


def test_other_losses_and_other_questions_are_refused(gpt2_here: Gpt2, fit: Path, tmp_path: Path) -> None:
    other = metrics(tmp_path / "other.jsonl", [("a", 1e8, 2e9, 3.0)], tokenizer_sha256="f" * 64)
    done = gpt2_here("fit-scaling", "predict", other, "--fit", fit)
    assert done.returncode == 65 and b"another tokenizer" in done.stderr
    done = gpt2_here("fit-scaling", "predict", other, "--fit", fit, "--n", "1B")
    assert done.returncode == 2 and b"give FILE or numbers, not both" in done.stderr
    done = gpt2_here("fit-scaling", "predict", other, "--fit", fit, "--law", "hoffmann")
    assert done.returncode == 2
