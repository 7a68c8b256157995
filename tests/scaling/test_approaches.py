"""The three approaches side by side in a fit's record: all recover a known law, and say so or why not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpt2cli.records.jsonl import encode_record
from gpt2cli.reporter import Silent
from gpt2cli.scaling.laws import ChinchillaLaw, published
from gpt2cli.scaling.study import FitConfig, run_study

BUDGETS = (1e15, 5e15, 2.5e16, 1.25e17, 6.4e17)


def ladder(path: Path, law: ChinchillaLaw, lift: float = 0.0) -> Path:
    """Write metrics of seven sizes at five budgets whose training curves and final losses follow `law`.

    `lift` is how far the curves lie above it while the learning rate is high: the share of a cosine.
    """
    lines = []
    for n in np.geomspace(1e6, 6.4e7, 7):
        for flops in BUDGETS:
            d = flops / 6 / n
            if not 0.6 < d / n < 2000:
                continue
            run = f"n{n:.0f}-c{flops:.0e}"
            shared = {"run": run, "flops": flops}
            lines.append(encode_record("gpt2.run", {
                "run": run, "config": {}, "seed": 0, "n_params": n, "n_params_non_embedding": n / 2, "n_layer": 1,
                "n_embd": 1, "n_head": 1, "n_ctx": 1, "n_vocab": 1, "tokenizer_sha256": "0", "data_sha256": "0",
                "versions": {}}))  # fmt: skip
            for step in range(1, 101):
                tokens, phase = d * step / 100, "warmup" if step <= 2 else "decay"
                loss = law.loss(n, tokens) * (1 + lift * (1 - step / 100))
                lines.append(encode_record("gpt2.step", {
                    **shared, "step": step, "tokens": tokens, "loss_nats": loss, "lr": 1e-3, "lr_phase": phase,
                    "grad_norm": 1.0}))  # fmt: skip
            loss = law.loss(n, d)
            lines.append(encode_record("gpt2.eval", {
                **shared, "step": 100, "tokens": d, "lr_phase": "done", "split": "val", "nll_nats_per_token": loss,
                "ppl": float(np.exp(loss)), "n_tokens": 1, "protocol": {}}))  # fmt: skip
    path.write_bytes(b"".join(lines))
    return path


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    law = published("hoffmann").law
    assert isinstance(law, ChinchillaLaw)
    return ladder(tmp_path_factory.mktemp("approaches") / "metrics.jsonl", law, lift=0.03)


@pytest.fixture(scope="module")
def approaches(metrics: Path) -> dict[str, Any]:
    found: dict[str, Any] = run_study(FitConfig((str(metrics),), resamples=50), Silent()).record()["approaches"]
    return found


def test_each_approach_finds_the_exponent_and_they_agree(approaches: dict[str, Any]) -> None:
    """Hoffmann's law has .28/.62 = .4516; the envelope of cosines and the bias of the parabolas leave the rest."""
    exact = 0.28 / 0.62
    assert approaches["surface"]["n_exponent"] == pytest.approx(exact, abs=1e-5)
    assert approaches["envelope"]["n_exponent"] == pytest.approx(exact, abs=0.02)
    assert approaches["isoflop"]["n_exponent"] == pytest.approx(exact, abs=0.02)
    for name in ("envelope", "isoflop", "surface"):
        entry = approaches[name]
        assert entry["d_exponent"] == pytest.approx(1 - entry["n_exponent"])
        (best,) = entry["allocations"]
        assert best["n_opt"] * best["d_opt"] * 6 == pytest.approx(best["flops"])
        low, high = entry["n_exponent_interval"]
        assert low <= entry["n_exponent"] + 1e-9 and entry["n_exponent"] - 1e-9 <= high
    assert approaches["agreement"]["of"] == ["envelope", "isoflop", "surface"]
    assert approaches["agreement"]["sentence"].startswith("they agree: exponents within 0.0")


def test_what_the_parabolas_would_give_explains_all_of_their_error_here(approaches: dict[str, Any]) -> None:
    """The losses are the law's own, so the whole distance of approach 2 from approach 3 is the method's bias."""
    isoflop = approaches["isoflop"]
    assert isoflop["n_exponent"] != pytest.approx(approaches["surface"]["n_exponent"], abs=1e-3)
    assert isoflop["n_exponent_of_law"] == pytest.approx(isoflop["n_exponent"], abs=1e-4)


def test_edge_minima_are_in_the_record(approaches: dict[str, Any]) -> None:
    minima = [profile["minimum"] for profile in approaches["isoflop"]["profiles"]]
    assert minima == ["inside"] * 4 + ["edge"]
    last = approaches["isoflop"]["profiles"][-1]
    assert last["flops"] == pytest.approx(6.4e17)
    assert [run["n"] for run in last["runs"]] == sorted(run["n"] for run in last["runs"])


def test_a_law_without_a_floor_disagrees_with_the_runs(metrics: Path) -> None:
    """Approaches 1 and 2 know no form, so they show that Kaplan's is the wrong one for these losses."""
    config = FitConfig((str(metrics),), resamples=0, law="kaplan-nd", allow_unidentified=True)
    found = run_study(config, Silent()).record()["approaches"]
    assert found["agreement"]["sentence"].startswith("they disagree")
    assert found["surface"]["n_exponent"] < found["envelope"]["n_exponent"] - 0.04


def test_a_law_of_one_variable_leaves_the_other_two(metrics: Path) -> None:
    config = FitConfig((str(metrics),), resamples=0, law="kaplan-c", allow_unidentified=True)
    found = run_study(config, Silent()).record()["approaches"]
    assert found["surface"]["why"] == "the fitted law knows N, D or C alone, so it has no optimum"
    assert found["agreement"]["of"] == ["envelope", "isoflop"] and found["isoflop"]["n_exponent_of_law"] is None


def test_the_table_names_all_three_and_why_one_is_missing(
    gpt2: Callable[..., Any], ladder_metrics: Path, metrics: Path
) -> None:
    done = gpt2("fit-scaling", metrics, "--bootstrap", "50", check=True)
    words = done.stderr.decode()
    assert "1 envelope of curves" in words and " handovers of 26 training curves" in words
    assert "4 minima; 1 at the edge left out" in words and "together" in words
    poor = gpt2("fit-scaling", ladder_metrics, "--bootstrap", "0", check=True)
    assert "no training curves: it needs the gpt2.step records" in poor.stderr.decode()
    assert "better five, at each of 3 budgets" in poor.stderr.decode()
    record = json.loads(poor.stdout.splitlines()[0])
    assert record["approaches"]["agreement"]["sentence"].startswith("nothing to compare")
