"""kill -9 at seeded moments of every stage: nothing half-made has the name of an output, and the same command, however
often it was killed before, ends in the bytes of a run never killed and leaves no temporary.

A few kills of some stages; `make test-faults`: fifty of each.
"""

from __future__ import annotations

import random
import signal
import sys
from pathlib import Path

import pytest
from faults.failing_calls import WHOLE, Faults, Stage, Trial
from faults.stages import STAGES

KILLS = 50 if WHOLE else 2
TRAIN_KILLS, TRAIN_STEPS, AT_ONCE = (50, 600, 25) if WHOLE else (6, 60, 4)
SOME = ("filter", "bpe-tokenize", "pack", "quantize")
LONG_RUN = ("train", "shards", "--layers", "2", "--embd", "32", "--context", "64", "--batch-tokens", "512",
            "--checkpoint-every", "4", "--eval-every", "7", "--eval-tokens", "512", "-o", "run")
WAYS = {"dropout": ("--dropout", "0.1"), "small network": ("--dtype", "fp32"),
        "bf16 weights": ("--dtype", "bf16", "--weights", "bf16", "--moments", "bf16")}
"""How a long run is computed: by torch, and by the compiled passes where this machine has them."""

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs LD_PRELOAD and /proc")


def kill_often(trial: Trial, faults: Faults, kills: int, seed: str, at_once: int) -> list[str]:
    """Kill a stage at moments drawn evenly from its time, or from one part in `at_once` of it, again and again.

    After twice `at_once` kills at most it is left to end. Return what did not hold, as sentences.
    """
    draw, left, wrong = random.Random(seed), kills, []
    longest = trial.over_old["seconds"] / at_once
    while left > 0:
        work = trial.begin()
        for _ in range(min(left, 2 * at_once)):
            moment = draw.uniform(0, longest)
            done = faults.run(trial.stage, work, kill_after_s=moment)
            if done["status"] != -signal.SIGKILL:
                if done["status"] != 0:
                    wrong.append(f"ended with {done['status']}: {done['stderr'][-300:]}")
                longest *= 0.9  # it is faster now than when it was measured
                break
            left -= 1
            wrong += [f"killed after {moment:.3f} s: {what}" for what in trial.wrong_now(work, killed=True)]
        wrong += [f"in the end: {what}" for what in trial.wrong_again(work)]
    return wrong


@linux
@pytest.mark.parametrize("name", STAGES if WHOLE else SOME)
def test_a_stage_killed_ends_in_the_same_bytes(name: str, faults: Faults, inputs: Path, tmp_path: Path) -> None:
    assert kill_often(Trial(STAGES[name], faults, inputs, tmp_path), faults, KILLS, name, 1) == []


@linux
@pytest.mark.parametrize("way", WAYS)
def test_a_run_killed_again_and_again_ends_in_the_same_bytes(
    way: str, faults: Faults, inputs: Path, tmp_path: Path
) -> None:
    steps = TRAIN_STEPS if WHOLE or way == "dropout" else TRAIN_STEPS // 3
    trial = Trial(Stage((*LONG_RUN, "--steps", str(steps), *WAYS[way]), ("run",), ("run",)), faults, inputs, tmp_path)
    assert kill_often(trial, faults, TRAIN_KILLS if way == "dropout" else max(3, TRAIN_KILLS // 2), way, AT_ONCE) == []
