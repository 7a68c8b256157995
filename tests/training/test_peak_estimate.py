"""The memory that --dry-run foretells beside what a run's process has held at its peak."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from in_process import gpt2_here  # noqa: F401  (a fixture)
from runs_here import config_of

from gpt2cli.training.peak_estimate import peak_memory

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]
LARGE = ("--layers", 8, "--embd", 128, "--context", 512, "--steps", 2, "--eval-tokens", 512)


@pytest.mark.slow
@pytest.mark.parametrize("options", [
    ("--batch-tokens", 8192, "--micro-batch", 16, "--dtype", "fp32"),
    ("--batch-tokens", 16384, "--micro-batch", 16, "--dtype", "bf16"),
    ("--batch-tokens", 512, "--dtype", "fp32", "--layers", 3, "--embd", 1024),
    ("--batch-tokens", 16384, "--micro-batch", 16, "--dtype", "fp32", "--activation-checkpointing"),
    ("--batch-tokens", 512, "--weights", "bf16", "--moments", "bf16", "--layers", 3, "--embd", 1024),
], ids=["activations", "two micro-batches", "parameters", "computed again", "narrow"])
def test_the_foretold_peak_is_within_15_per_cent_of_the_measured_one(
    gpt2: Run, gpt2_here: Run, shard_directory: Path, tmp_path: Path, options: tuple[object, ...]  # noqa: F811
) -> None:
    run = tmp_path / "run"
    command = ("train", shard_directory, *LARGE, *options, "-o", run)
    said = gpt2_here(*command, "--dry-run", check=True).stdout.decode()
    found = re.search(r"^memory +about ([\d.]+) GiB at the peak", said, re.MULTILINE)
    assert found is not None, said
    gpt2(*command, check=True)
    last = json.loads((run / "perf.jsonl").read_text().splitlines()[-1])
    assert float(found[1]) * 2**30 == pytest.approx(last["peak_rss_bytes"], rel=0.15)


def test_more_of_anything_needs_more(shard_directory: Path) -> None:
    def total(**options: object) -> int:
        asked = {"embd": 64, "layers": 4, "batch_tokens": 4096, "micro_batch": 128, **options}
        return peak_memory(config_of(shard_directory, **asked)).total

    least = total()
    assert least < total(layers=5) and least < total(embd=128) and least < total(batch_tokens=8192, micro_batch=256)
    assert least < total(batch_tokens=8192)  # gradients are there while the second micro-batch is computed
