"""How fast this machine trains the models of a ladder: the real command, for a few steps, as many at once as later."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from gpt2cli.cli.console import Console
from gpt2cli.errors import Gpt2Error
from gpt2cli.sizes import ModelShape

if TYPE_CHECKING:
    from gpt2cli.scaling.ladder import Speed

_MEASURED = {16: 80, 48: 60, 128: 40}
"""Width -> steps of a measurement."""


def measure(shards: str, data: ModelShape, jobs: int, console: Console) -> Speed:
    """Train models of three widths for some steps, `jobs` of each at once; raise Gpt2Error when that fails.

    data: its context and vocabulary count.
    """
    from gpt2cli.records.temporaries import temporary_directory
    from gpt2cli.scaling.ladder import Speed, network

    seconds: dict[int, float] = {}
    starts: list[float] = []
    with temporary_directory("gpt2-plan") as scratch:
        for number, (width, steps) in enumerate(_MEASURED.items()):
            console.progress(number, len(_MEASURED), "measurements", width=str(width))
            runs = [scratch / f"{width}-{job}" for job in range(jobs)]
            begin = time.perf_counter()
            _train(shards, network(width, data), steps, runs)
            wall = time.perf_counter() - begin
            taken = [_step_seconds(run) for run in runs]
            seconds[width] = statistics.median(second for run in taken for second in run[len(run) // 2 :])
            starts.append(wall - statistics.mean(map(sum, taken)))
    return Speed(seconds, max(0.0, min(starts)))


def _train(shards: str, shape: ModelShape, steps: int, runs: list[Path]) -> None:
    from gpt2cli.scaling.ladder_words import train_words

    words = [*train_words(shape), "--steps", steps, "--warmup", "10", "--lr", "1e-3", "--eval-tokens", "512",
             "--eval-every", "1000000", "--checkpoint-every", "1000000"]  # fmt: skip
    command = [sys.executable, "-m", "gpt2cli", "train", shards, *map(str, words), "-q"]
    begun: list[subprocess.Popen[bytes]] = []
    try:
        begun += [
            subprocess.Popen([*command, "-o", str(run)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE)
            for run in runs
        ]  # fmt: skip
        for process in begun:
            said = process.communicate()[1].decode(errors="replace").strip()
            if process.returncode:
                raise Gpt2Error(f"the speed could not be measured, for gpt2 train failed: {said[-400:]}")
    finally:
        for process in begun:
            if process.poll() is None:
                process.kill()
                process.wait()


def _step_seconds(run: Path) -> list[float]:
    from gpt2cli.records.jsonl import ReadTally, read_records
    from gpt2cli.records.run_directory import PERF

    return [float(record["step_seconds"]) for record in read_records(run / PERF, ReadTally(), kinds=("gpt2.perf",))]
