"""`demo/ladder/rungs.mk`: a small planned ladder by the real commands, killed on its way, run again, then nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpt2cli.scaling.ladder import Ladder, Rung
from gpt2cli.scaling.ladder_words import make_words
from gpt2cli.sizes import ModelShape

ROOT = Path(__file__).resolve().parents[2]


def small_plan() -> str:
    """A ladder as plan --make writes it, of 30 and 60 steps and with little to score."""
    def rungs(width: int, *steps: int | None) -> list[Rung]:
        return [Rung(ModelShape(1, 1, width, 32, 400), 0.01, step, 1.0, held_out=width == 24) for step in steps]

    runs = [*rungs(24, 60), *rungs(16, None, 60, 30), *rungs(8, None, 60, 30)]
    words = make_words(Ladder(tuple(runs), (30, 60), 1.0, 2))
    return words.replace("--eval-tokens 131072", "--eval-tokens 2048").replace("--warmup 100", "--warmup 5")


def make(ladder: Path, shards: Path) -> tuple[list[str], dict[str, str]]:
    words = {"LADDER": ladder, "SHARDS": shards, "GPT2": f"{sys.executable} -m gpt2cli",
             "FIT_FLAGS": "--allow-unidentified --bootstrap 20"}
    command = ["make", "--no-print-directory", "-j2", "-f", "demo/ladder/rungs.mk", str(ladder / "report.txt"),
               *(f"{name}={value}" for name, value in words.items())]
    dropped = ("GPT2_", "MAKE", "MFLAGS")
    return command, {name: value for name, value in os.environ.items() if not name.startswith(dropped)}


@pytest.mark.slow
def test_a_ladder_stopped_on_its_way_goes_on_and_a_second_make_does_nothing(
    tmp_path: Path, shard_directory: Path
) -> None:
    ladder = tmp_path / "ladder"
    ladder.mkdir()
    (ladder / "plan.mk").write_text(small_plan())
    command, environment = make(ladder, shard_directory)
    begun = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, start_new_session=True,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(ladder.glob("*/manifest.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(begun.pid, signal.SIGKILL)
    begun.wait()
    done_before = {path: path.stat().st_mtime_ns for path in ladder.glob("*/manifest.json")}
    assert done_before

    again = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert again.returncode == 0, again.stderr[-3000:]
    assert {path: path.stat().st_mtime_ns for path in done_before} == done_before
    assert len(list(ladder.glob("*/manifest.json"))) == 7
    fit = json.loads((ladder / "fit.jsonl").read_text())
    assert len(fit["observations"]) == 4 and {seen["cluster"] for seen in fit["observations"]} == {0, 1}
    held = json.loads((ladder / "held-out.jsonl").read_text())
    assert held["kind"] == "run-beside-law" and not held["fitted"] and held["d"] == 60 * 512
    assert "predicted" in (ladder / "report.txt").read_text() and (ladder / "fit.png").stat().st_size > 1000

    third = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert third.returncode == 0 and "up to date" in third.stdout and "gpt2cli" not in third.stdout
