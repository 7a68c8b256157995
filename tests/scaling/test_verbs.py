"""The verbs of gpt2 fit-scaling that need a law, not a fit: their records, tables and refusals."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_process import gpt2_here as gpt2_here

from gpt2cli.records.jsonl import encode_record
from gpt2cli.scaling.laws import PUBLISHED

Gpt2 = Callable[..., Any]


def records(stdout: bytes) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in stdout.splitlines()]
    assert lines.pop()["schema"] == "gpt2.end/1"
    return lines


@pytest.fixture
def ask(gpt2_here: Gpt2) -> Callable[..., tuple[list[dict[str, Any]], str]]:
    """Run a verb that must succeed; return its records and what it said."""

    def run(*words: object, input: bytes = b"") -> tuple[list[dict[str, Any]], str]:
        done = gpt2_here("fit-scaling", *words, input=input, check=True)
        return records(done.stdout), done.stderr.decode()

    return run


Ask = Callable[..., tuple[list[dict[str, Any]], str]]


@pytest.mark.parametrize(("law", "loss"), [("kaplan-t5", 1.732), ("kaplan-t2", 1.661)])
def test_gpt3_by_kaplan(ask: Ask, law: str, loss: float) -> None:
    ((found,), words) = ask("predict", "--law", law, "--n", "175B", "--d", "300B")
    assert (found["schema"], found["kind"], found["of"]) == ("gpt2.plan/1", "prediction", "L(N, D)")
    assert found["loss_nats"] == pytest.approx(loss, abs=6e-4)
    assert found["count"] == "non-embedding" and f"{loss:.2f}" in words


@pytest.mark.parametrize("law", PUBLISHED)
def test_every_law_predicts_by_n_d_and_c_and_allocates(ask: Ask, law: str) -> None:
    ((both,), _) = ask("predict", "--law", law, "--n", "1B", "--d", "20B")
    ((size,), _) = ask("predict", "--law", law, "--n", "1B")
    ((data,), _) = ask("predict", "--law", law, "--d", "20B")
    ((compute,), _) = ask("predict", "--law", law, "--flops", "1.2e20")
    ((best,), _) = ask("optimal", "--law", law, "--flops", "1.2e20")
    ((split,), _) = ask("predict", "--law", law, "--n", "1B", "--flops", "1.2e20")
    assert split["loss_nats"] == both["loss_nats"] and split["d"] == 2e10
    assert both["loss_nats"] > max(size["loss_nats"], data["loss_nats"])
    assert (size["n"], size["d"], data["n"], size["flops"]) == (1e9, None, None, None)
    assert best["loss_nats"] <= both["loss_nats"]
    assert 6 * best["n_opt"] * best["d_opt"] == pytest.approx(1.2e20)
    if law == "kaplan-t5":
        assert [one["of"] for one in (size, data, compute)] == ["L(N)", "L(D)", "L(C_min)"]
        assert compute["loss_nats"] == pytest.approx((3.1e8 * 8.64e19 / 1.2e20) ** 0.05)
    else:
        assert compute["loss_nats"] == best["loss_nats"]


def test_steps_of_a_batch(ask: Ask) -> None:
    ((found,), _) = ask("predict", "--law", "kaplan-ns", "--n", "1.5B", "--steps", "250K", "--batch-tokens", "512Ki")
    assert found["s_min"] == pytest.approx(250e3 / (1 + found["critical_batch_tokens"] / 2**19))
    expected = (6.5e13 / 1.5e9) ** 0.077 + (2.1e3 / found["s_min"]) ** 0.76
    assert found["loss_nats"] == pytest.approx(expected)


def test_repeated_data_are_worth_less(ask: Ask) -> None:
    words = ("predict", "--law", "muennighoff", "--n", "1B", "--d", "100B")
    ((fresh,), _), ((repeated,), _) = ask(*words), ask(*words, "--unique-tokens", "5B")
    assert repeated["loss_nats"] > fresh["loss_nats"] and repeated["unique_tokens"] == 5e9


def test_real_networks_say_how_flop_are_counted(ask: Ask) -> None:
    words = (
        "optimal",
        "--law",
        "hoffmann",
        "--flops",
        "1e19",
        "--architectures",
        "--context",
        256,
        "--vocab-size",
        1024,
    )
    ((causal,), said) = ask(*words)
    ((full,), said_full) = ask(*words, "--attention", "full", "--aspect", 30, 60, "--within", 0.02)
    assert "6 L T d, causal half" in said and "12 L T d, all" in said_full
    for found, attention in ((causal, 6), (full, 12)):
        depth, width = found["n_layer"], found["n_embd"]
        matrices = 6 * (12 * depth * width**2 + 1024 * width)
        assert found["flops_per_token"] == matrices + attention * depth * 256 * width
        assert found["d"] * found["flops_per_token"] == pytest.approx(1e19)
        assert found["n"] == found["n_params"] and found["within"]["n"][0] < found["n"] < found["within"]["n"][1]
    assert 30 <= full["n_embd"] / full["n_layer"] <= 60 and full["within"]["share"] == 0.02


def test_critical_batch_by_law(ask: Ask) -> None:
    found, said = ask("batch", "--loss", 4, "--loss", 3, "--loss", 2, "--batch-tokens", "1M")
    assert [one["critical_batch_tokens"] for one in found] == pytest.approx([2.85e5, 1.12e6, 7.74e6], rel=3e-3)
    assert found[2]["batches"][0]["steps_factor"] == pytest.approx(8.74, abs=0.01)
    assert "7.74M" in said


def test_critical_batch_by_measurement(ask: Ask) -> None:
    step = {
        "run": "r",
        "step": 1,
        "tokens": 1,
        "flops": 1,
        "loss_nats": 3.0,
        "lr": 1,
        "lr_phase": "stable",
        "grad_norm": 1,
        "batch_tokens_small": 1000,
        "batch_tokens_large": 16000,
        "grad_sq_small": 0.25 + 50,
        "grad_sq_large": 0.25 + 50 / 16,
    }
    ((found,), _) = ask("batch", input=encode_record("gpt2.step", step))
    assert found["critical_batch_tokens"] == pytest.approx(2e5) and found["measurements"] == 1
    ((drowned,), said) = ask(
        "batch", "--half-life", 5, input=encode_record("gpt2.step", {**step, "grad_sq_large": 1.0})
    )
    assert drowned["critical_batch_tokens"] is None and "drowned in its noise" in said


def test_earliest_stop(ask: Ask) -> None:
    ((found,), said) = ask("stop", "--n", "100M", "--d", "20M", "--batch-tokens", "64Ki")
    gap = PUBLISHED["kaplan-t2"].law.loss(1e8, 2e7) - (6.4e13 / 1e8) ** 0.076
    assert (found["law"], found["batch_tokens"]) == ("kaplan-t2", 65536)
    assert found["s_min"] == pytest.approx(2.1e3 / gap ** (1 / 0.76))
    assert found["steps"] > found["s_min"] and "passes over D" in said
    ((other,), _) = ask("stop", "--law", "besiroglu", "--n", "100M", "--d", "20M")
    assert other["gap_nats"] == pytest.approx(2085.43 * 2e7**-0.3658)


def test_crossing(ask: Ask) -> None:
    ((found,), said) = ask("compare", "--crossing")
    assert found["pf_days"] == pytest.approx(1e4, rel=0.3) and found["loss_nats"] == pytest.approx(1.7, abs=0.05)
    assert "must break" in said


def test_strategies_of_a_budget(ask: Ask) -> None:
    found, said = ask(
        "compare", "--law", "besiroglu", "--flops", "5.76e23", "--n", "280B", "--tokens-per-parameter", 20
    )
    assert [one["strategy"] for one in found] == ["the law's optimum", "20 tokens a parameter", "N = 2.8e+11"]
    assert found[0]["wasted"] == 0 and found[2]["wasted"] == pytest.approx(
        1 - found[2]["flops_for_same_loss"] / 5.76e23
    )
    assert "Kaplan" not in said


def test_runs_beside_a_run_and_a_law(ask: Ask, tmp_path: Path, ladder_metrics: Path) -> None:
    found, _ = ask("compare", ladder_metrics, "--law", "hoffmann")
    assert len(found) == 12 and all(one["kind"] == "comparison" for one in found)
    assert all(one["compute_multiplier"] < 1.01 for one in found), "nothing beats the best use by its own law"
    lines = []
    for name, factor in (("slow", 1.0), ("fast", 2.0)):
        for i in range(1, 11):
            flops = 1e12 * i
            lines.append(
                encode_record(
                    "gpt2.eval",
                    {
                        "run": name,
                        "step": i,
                        "tokens": 1000 * i,
                        "flops": flops,
                        "split": "val",
                        "n_tokens": 1,
                        "protocol": {},
                        "nll_nats_per_token": 4 * (factor * flops / 1e12) ** -0.1,
                        "ppl": 1.0,
                        "lr_phase": "done" if i == 10 else "stable",
                    },
                )
            )
    ((one,), said) = ask("compare", "--reference", "slow", input=b"".join(lines[:10] + lines[13:15]))
    assert one["flops_of_reference"] == pytest.approx(1e13, rel=1e-6) and not one["decayed"]
    assert one["compute_multiplier"] == pytest.approx(2.0)
    assert "before its learning rate had decayed" in said and "overstated" in said


def test_inference_of_a_life(ask: Ask) -> None:
    found, said = ask(
        "inference", "--law", "hoffmann", "--quality-of", "30B", "--inference-tokens", "0", "--inference-tokens", "10T"
    )
    assert [one["n_opt"] for one in found] == pytest.approx([3e10, 3e10], rel=1e-6)
    assert (
        found[0]["saved"] == pytest.approx(0, abs=1e-6) and found[1]["n"] < 2e10 and found[1]["d"] > found[1]["d_opt"]
    )
    assert found[1]["flops"] == pytest.approx(6 * found[1]["n"] * found[1]["d"] + 2 * found[1]["n"] * 1e13)
    ((by_budget,), _) = ask("inference", "--law", "hoffmann", "--flops", "1e21", "--inference-tokens", "1T")
    ((by_loss,), _) = ask(
        "inference", "--law", "hoffmann", "--loss", by_budget["loss_nats"], "--inference-tokens", "1T"
    )
    assert by_loss["n"] == pytest.approx(by_budget["n"], rel=1e-4) and "saved" in said


def test_capability_of_a_ladder(ask: Ask, ladder_metrics: Path) -> None:
    (found, said) = ask("capability", ladder_metrics, "--at", "1B", "--bootstrap", 20)
    (fit,) = found
    assert (fit["schema"], fit["kind"], fit["law"], fit["variable"]) == ("gpt2.fit/1", "capability", "power", "n")
    assert len(fit["points"]) == 4 and fit["answers"][0]["x"] == 1e9
    low, high = fit["answers"][0]["interval"]
    assert low <= fit["answers"][0]["value"] <= high
    assert "Metrics against N" in said


def task(n: float, accuracy: float) -> bytes:
    return encode_record(
        "gpt2.task",
        {
            "run": f"n{n:.0e}",
            "step": 1,
            "tokens": 1e9,
            "flops": 6e9 * n,
            "n_params": n,
            "task": "arc",
            "type": "choice",
            "num_fewshot": 0,
            "n_items": 1000,
            "protocol": {},
            "metrics": {"acc": {"value": accuracy, "stderr": 0.01}},
        },
    )


def test_capability_of_tasks(ask: Ask) -> None:
    lines = b"".join(task(n, 0.25 + 0.75 / (1 + (n / 1e9) ** -0.7)) for n in (1e7, 1e8, 1e9, 1e10))
    ((fit,), said) = ask(
        "capability",
        "--floor",
        0.25,
        "--metric",
        "acc",
        "--against",
        "c",
        "--form",
        "logistic",
        "--ceiling",
        1,
        "--seed",
        3,
        input=lines,
    )
    assert fit["law"] == "logistic" and fit["parameters"]["x_half"] == pytest.approx(6e18, rel=1e-5)
    assert fit["parameters"]["slope"] == pytest.approx(0.7, rel=1e-5) and "Metrics against C" in said


def curve_lines(losses: np.ndarray) -> bytes:
    return b"".join(
        encode_record(
            "gpt2.step",
            {
                "run": "r",
                "step": i,
                "tokens": 10 * i,
                "flops": 60 * i,
                "loss_nats": float(loss),
                "lr": 1e-3,
                "lr_phase": "stable",
                "grad_norm": 1.0,
            },
        )
        for i, loss in enumerate(losses, 1)
    )


def test_a_curve_is_read_off_at_budgets_beyond_64_bits(ask: Ask) -> None:
    lines = curve_lines(2 + 3 * np.arange(1, 101) ** -0.5)
    ((fit,), _) = ask("curve", "--split", "train", "--x", "flops", "--at", 10**20, input=lines)
    assert 2 < fit["answers"][0]["value"] < 2.1


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_loss_that_the_law_of_batches_knows_no_answer_for(ask: Ask) -> None:
    ((plan,), said) = ask("batch", "--loss", 1e-300)
    assert plan["critical_batch_tokens"] is None and "the law gives no batch for a loss of 1e-300 nats" in said


def test_curve_of_steps_and_its_warnings(ask: Ask) -> None:
    steps = np.arange(1, 101)
    smooth = 2 + 3 * steps**-0.5
    ((fit,), said) = ask("curve", "--split", "train", "--x", "tokens", "--at", 2000, input=curve_lines(smooth))
    assert (fit["kind"], fit["law"], fit["shape"]) == ("curve", "power", None)
    assert fit["answers"][0]["value"] == pytest.approx(2 + 3 * 200**-0.5)
    assert "Loss against tokens" in said
    bumpy = smooth + np.exp(-(((steps - 50) / 10) ** 2))
    ((fit,), said) = ask("curve", "--split", "train", "--form", "exponential", input=curve_lines(bumpy))
    assert fit["law"] == "exponential" and fit["shape"]["double_descent"] and "double descent" in said


def test_kinds_are_passed_over_by_plot(gpt2_here: Gpt2, tmp_path: Path) -> None:
    done = gpt2_here(
        "fit-scaling",
        "curve",
        "--split",
        "train",
        "-o",
        tmp_path / "c.jsonl",
        input=curve_lines(2 + 3 * np.arange(1, 51) ** -0.5),
        check=True,
    )
    assert done.stdout == b""
    assert gpt2_here("plot", tmp_path / "c.jsonl").returncode == 65
    again = gpt2_here("fit-scaling", "curve", "-o", tmp_path / "c.jsonl")
    assert again.returncode == 2 and b"--force" in again.stderr


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (("predict", "--law", "hoffmann"), 2, "predict takes one of --n, --d and --flops"),
        (("predict", "--law", "hoffmann", "--d", "1B", "--flops", "1e20"), 2, "predict takes"),
        (("predict", "--law", "hoffmann", "--n", 1, "--n", 2, "--d", 1), 2, "equally often"),
        (("predict", "--law", "hoffmann", "--n", 1, "--steps", 1), 2, "go together"),
        (("predict", "--law", "hoffmann", "--n", 1, "--steps", 1, "--batch-tokens", 1), 2, "knows no steps"),
        (("predict", "--law", "hoffmann", "--n", 1, "--unique-tokens", 1), 2, "knows no repeated data"),
        (("optimal", "--law", "hoffmann", "--flops", "1e20", "--architectures", "--aspect", 9, 3), 2, "lower end"),
        (("optimal", "--law", "hoffmann", "--flops", "1e5", "--architectures"), 2, "not one context"),
        (("batch", "--loss", 3, "x.jsonl"), 2, "give one of them"),
        (("batch", "--loss", "nan"), 2, "--loss"),
        (("batch",), 65, "standard input"),
        (("stop", "--n", "1B"), 2, "--d"),
        (("compare",), 2, "--reference RUN"),
        (("compare", "--crossing", "--flops", 1), 2, "four different questions"),
        (("compare", "--crossing", "--law", "hoffmann"), 2, "of kaplan-t5"),
        (("compare", "--n", "1B", "--law", "hoffmann"), 2, "need a budget"),
        (("compare", "x", "--flops", "1e20", "--law", "hoffmann"), 2, "runs in FILE"),
        (("compare", "--flops", "1e20"), 2, "either --law NAME or --fit FILE"),
        (("inference", "--law", "hoffmann", "--inference-tokens", 1), 2, "by one of --loss"),
        (("inference", "--law", "hoffmann", "--inference-tokens", 1, "--loss", 1.5), 2, "floor is higher"),
        (("capability", "--floor", 1), 2, "not below"),
        (("capability",), 65, "standard input"),
        (("curve",), 65, "standard input"),
        (("curve", "/no/such/file"), 2, "/no/such/file"),
    ],
)
def test_misuse_is_one_sentence(gpt2_here: Gpt2, words: tuple[object, ...], status: int, says: str) -> None:
    done = gpt2_here("fit-scaling", *words)
    assert (done.returncode, done.stdout) == (status, b"")
    assert done.stderr.count(b"\n") == 1 and says in done.stderr.decode()


def test_answers_are_finite_numbers(ask: Ask) -> None:
    ((found,), _) = ask("predict", "--law", "hoffmann", "--n", "1e30", "--d", "1e30")
    assert math.isfinite(found["loss_nats"])


@pytest.fixture
def fit_of_compute(gpt2_here: Gpt2, ladder_metrics: Path, tmp_path: Path) -> Path:
    path = tmp_path / "c.jsonl"
    gpt2_here("fit-scaling", ladder_metrics, "--law", "kaplan-c-floor", "-q", "--bootstrap", 50, "-o", path, check=True)
    return path


def test_a_fit_of_compute_predicts_by_compute(ask: Ask, fit_of_compute: Path) -> None:
    ((found,), _) = ask("predict", "--fit", fit_of_compute, "--flops", "1e18")
    low, high = found["loss_nats_interval"]
    assert found["of"] == "L(C)" and low <= found["loss_nats"] <= high


@pytest.mark.parametrize(
    "words",
    [
        ("stop", "--n", "1M", "--d", "1M"),
        ("inference", "--loss", 3, "--inference-tokens", 1),
        ("compare", "--flops", "1e18"),
        ("optimal", "--flops", "1e18", "--architectures"),
    ],
)
def test_a_fit_of_compute_is_no_surface(gpt2_here: Gpt2, fit_of_compute: Path, words: tuple[object, ...]) -> None:
    done = gpt2_here("fit-scaling", *words, "--fit", fit_of_compute)
    assert (done.returncode, done.stdout) == (2, b"") and b"a law of C alone" in done.stderr
    assert b"give --flops" in gpt2_here("fit-scaling", "predict", "--fit", fit_of_compute, "--n", 1).stderr


@pytest.mark.parametrize("form", ["kaplan-nd", pytest.param("skaling", marks=pytest.mark.slow)])
def test_fits_of_other_forms_answer_with_intervals(
    ask: Ask, gpt2_here: Gpt2, ladder_metrics: Path, tmp_path: Path, form: str
) -> None:
    path = tmp_path / "fit.jsonl"
    words = ("--allow-unidentified", "-q", "--bootstrap", 50, "-o", path)
    gpt2_here("fit-scaling", ladder_metrics, "--law", form, *words, check=True)
    ((best,), _) = ask("optimal", "--fit", path, "--flops", "1e18")
    ((size,), said) = ask("predict", "--fit", path, "--n", "64M")
    assert best["n_opt_interval"][0] <= best["n_opt"] <= best["n_opt_interval"][1]
    assert size["loss_nats"] < 4 and "Warning" not in said
