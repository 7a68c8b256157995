"""gpt2 fit-scaling plan: the cost of a run by arithmetic one can check, and ladders from a real measurement."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from in_process import gpt2_here as gpt2_here

from gpt2cli.cli.console import Console
from gpt2cli.cli.ladder_speed import measure
from gpt2cli.errors import Gpt2Error
from gpt2cli.model.nll import HEAD_CHUNK
from gpt2cli.scaling.run_cost import HEAD_CHUNK_POSITIONS
from gpt2cli.sizes import SIZES, ModelShape

Gpt2 = Callable[..., Any]


def planned(gpt2_here: Gpt2, *words: object) -> tuple[dict[str, Any], str]:
    done = gpt2_here("fit-scaling", "plan", *words, check=True)
    return json.loads(done.stdout.splitlines()[0]), done.stderr.decode()


def test_a_run_at_a_given_rate(gpt2_here: Gpt2) -> None:
    words = ("--size", "medium", "--d", "10B", "--flops-per-second", "1.5e14", "--devices", 8, "--price", 2.5)
    found, said = planned(gpt2_here, *words, "--law", "hoffmann")
    shape = SIZES["medium"]
    assert found["n"] == shape.n_params == 354_823_168
    assert found["flops"] == pytest.approx(1e10 * shape.train_flops_per_token())
    trained = found["steps"] * found["batch_tokens"]
    assert 0 <= 1e10 - trained < 524_288
    assert found["seconds"] == pytest.approx(trained * shape.train_flops_per_token() / 1.5e14 / 8)
    assert found["device_hours"] == pytest.approx(8 * found["seconds"] / 3600)
    assert found["price"] == pytest.approx(2.5 * found["device_hours"])
    assert found["memory_bytes"]["parameters"] == 4 * shape.n_params
    assert found["memory_bytes"]["total"] == sum(v for k, v in found["memory_bytes"].items() if k != "total")
    assert found["loss_nats"] == pytest.approx(1.69 + 406.4 * shape.n_params**-0.34 + 410.7 * 1e10**-0.28, rel=1e-4)
    assert "loss by hoffmann" in said and "price" in said and "8 devices" in said


def test_a_run_measured_here(gpt2_here: Gpt2) -> None:
    words = ("--layers", 3, "--embd", 32, "--context", 64, "--vocab-size", 300, "--d", 64_000, "--batch-tokens", 640)
    found, said = planned(gpt2_here, *words, "--dtype", "fp32", "--threads", 1)
    assert found["seconds"] > 0 and found["steps"] == 100 and found["law"] is None
    assert found["source"] == "measured here on cpu in fp32" and "loss by" not in said
    assert found["flops_per_second"] == pytest.approx(found["flops"] / found["seconds"])


def test_memory_counts_the_chunk_of_logits_that_training_has() -> None:
    assert HEAD_CHUNK_POSITIONS == HEAD_CHUNK


def test_d_is_twenty_a_parameter_unless_given(gpt2_here: Gpt2) -> None:
    found, _ = planned(gpt2_here, "--size", "small", "--flops-per-second", "1e14")
    assert found["d"] == 20 * SIZES["small"].n_params


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "plan SHARDS --minutes M plans a ladder"),
        (("shards", "--size", "small"), "belong to a ladder"),
        (("--minutes", "5"), "which training set?"),
        (("shards", "--minutes", "5", "--size", "small", "--price", "1"), "--size and --price belong to the cost"),
        (("--size", "small", "--layers", "2"), "not both"),
        (("--layers", "2"), "--layers and --embd go together"),
        (("--size", "small", "--make"), "belong to a ladder"),
        (("--size", "small", "--d", "1000", "--flops-per-second", "1e12"), "less than one batch"),
        (("--size", "small", "--batch-tokens", "10", "--flops-per-second", "1e12"), "less than one context"),
        (("--size", "huge"), "no size 'huge'"),
        (("--size", "small", "--law", "nobody", "--flops-per-second", "1e12"), "nobody"),
        (("--layers", "2", "--embd", "48", "--heads", "5"), "does not divide into 5 heads"),
    ],
)
def test_misuse_is_a_sentence(gpt2_here: Gpt2, words: tuple[str, ...], says: str) -> None:
    done = gpt2_here("fit-scaling", "plan", *words)
    assert done.returncode == 2 and says in done.stderr.decode() and not done.stdout


def test_shards_that_are_none_are_told_before_anything_is_measured(gpt2_here: Gpt2, tmp_path: Path) -> None:
    done = gpt2_here("fit-scaling", "plan", tmp_path / "nowhere", "--minutes", "5")
    assert done.returncode in (2, 74) and b"nowhere" in done.stderr


def test_a_ladder_on_too_little_text_is_refused_before_anything_is_measured(
    gpt2_here: Gpt2, shard_directory: Path
) -> None:
    done = gpt2_here("fit-scaling", "plan", shard_directory, "--minutes", 600)
    assert done.returncode == 2 and b"a ladder needs 512,000 training tokens at the least" in done.stderr


@pytest.mark.slow
def test_speed_is_measured_by_the_real_command(shard_directory: Path) -> None:
    speed = measure(str(shard_directory), ModelShape(1, 1, 1, 32, 400), 2, Console("gpt2", quiet=True))
    seconds = [speed.step_seconds[width] for width in sorted(speed.step_seconds)]
    assert len(seconds) == 3 and min(seconds) > 0 and seconds[-1] > seconds[0]
    assert 0.3 < speed.start_seconds < 120


def test_a_measurement_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(Gpt2Error, match=r"the speed could not be measured, for gpt2 train failed: .*nowhere"):
        measure(str(tmp_path / "nowhere"), ModelShape(1, 1, 1, 32, 400), 1, Console("gpt2", quiet=True))
