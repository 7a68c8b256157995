"""kill -9 at random moments of a training run: run again, it must end in the bytes of a run never killed."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

N_KILLS, STEPS = (50, 1500) if os.environ.get("FAULTS") == "all" else (6, 150)


@pytest.mark.slow
def test_kills_change_no_byte(
    gpt2: Callable[..., subprocess.CompletedProcess[bytes]],
    gpt2_popen: Callable[..., subprocess.Popen[bytes]],
    shard_directory: Path,
    tmp_path: Path,
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    command = ("train", shard_directory, "--layers", 2, "--embd", 64, "--context", 64, "--batch-tokens", 2048,
               "--steps", STEPS, "--checkpoint-every", 4, "--eval-every", 7, "--dropout", 0.1, "-q", "-o")
    gpt2(*command, whole, check=True)
    rng = random.Random(9)
    died = 0
    while died < N_KILLS:
        process = gpt2_popen(*command, killed, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        started = _size(killed)
        deadline = time.monotonic() + 60
        while _size(killed) == started and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)  # the run has begun to write
        time.sleep(rng.uniform(0, 0.5))
        process.kill()
        if process.wait() == 0:
            break
        died += 1
    assert died == N_KILLS, "the run ended before it was killed often enough; give it more steps"
    gpt2(*command, killed, check=True)
    for name in ("metrics.jsonl", "run.json", "manifest.json", f"checkpoints/step-{STEPS:08d}/model.safetensors",
                 f"checkpoints/step-{STEPS:08d}/training/optimizer.safetensors"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    assert not list(killed.rglob(".*.tmp-*")), "a killed writer's temporary was not swept"


def _size(run: Path) -> int:
    path = run / "perf.jsonl"
    return path.stat().st_mtime_ns if path.exists() else 0
