"""What is not finite on one of several ranks is left out, or ends them, on all alike, however the model is divided."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from faults.file_damage import WHOLE
from rank_runs import TINY, Ended, records, trained
from runs_here import poison

from gpt2cli.records.shard_set import load_shard_set
from gpt2cli.tokens.order import data_order
from gpt2cli.training.divided import Divided
from gpt2cli.training.optimizer import held_here
from gpt2cli.training.ranks import Ranks
from gpt2cli.training.weight_bound import LARGEST, WeightBound

CONTEXT = int(TINY[TINY.index("--context") + 1])
BATCH = int(TINY[TINY.index("--batch-tokens") + 1]) // CONTEXT
OPTIONS = ("--steps", 7, "--eval-every", 7, "--eval-tokens", 512, "--checkpoint-every", 1, "--keep", 20)
BAD_STEP = 4
WAYS: dict[str, tuple[object, ...]] = {
    "together": (), "deterministic": ("--deterministic", "--micro-batch", 2), "fsdp": ("--parallel", "fsdp"),
    "tp=2": ("--parallel", "tp=2"), "pp=2": ("--parallel", "pp=2"),
}
ORDINARY = ("together", "pp=2")


@pytest.fixture
def train(shard_directory: Path, tmp_path: Path) -> Callable[..., Ended]:
    def run(world: int, name: str, *options: object, check: bool = True) -> Ended:
        return trained(world, shard_directory, tmp_path / name, *OPTIONS, "--micro-batch", 4, *options, check=check)

    return run


def spoil_gradient(patch: pytest.MonkeyPatch, on_rank: int, value: float) -> None:
    """Let one number of what a rank gives to the sum of step BAD_STEP's gradient be `value`."""
    for kind in (Ranks, Divided):
        def add_up(self: Any, gradient: list[torch.Tensor], *others: Any, real: Any = kind.add_up) -> None:
            self.sums = getattr(self, "sums", 0) + 1
            if self.sums == BAD_STEP and self.rank == on_rank:
                held_here(gradient[-1]).view(-1)[0] = value
            real(self, gradient, *others)

        patch.setattr(kind, "add_up", add_up)


@pytest.mark.parametrize("value", [math.nan, -math.inf] if WHOLE else [math.nan])
@pytest.mark.parametrize("rank", [0, 1] if WHOLE else [1])
@pytest.mark.parametrize("way", WAYS if WHOLE else ORDINARY)
def test_a_gradient_that_is_not_finite_on_one_rank_is_left_out_by_all(
    way: str, rank: int, value: float, train: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        spoil_gradient(patch, rank, value)
        end = train(2, "run", "--on-spike", "skip", *WAYS[way])
    steps = [record["step"] for record in records(tmp_path / "run", "gpt2.step")]
    (spike,) = records(tmp_path / "run", "gpt2.spike")
    assert (spike["step"], spike["batch"], spike["limit"]) == (BAD_STEP, BAD_STEP, None)
    assert steps == [step for step in range(1, 8) if step != BAD_STEP]
    held = [tmp_path / f"run/checkpoints/step-{step:08d}" for step in (BAD_STEP - 1, BAD_STEP, BAD_STEP + 1)]
    for name in ("model.safetensors", "training/optimizer.safetensors"):
        before, at, after = ((checkpoint / name).read_bytes() for checkpoint in held)
        assert before == at != after
    assert end.err[0].count("it is left out") == 1 and end.err[1] == ""
    spoil_gradient(monkeypatch, 0, value)
    train(1, "alone", "--on-spike", "skip")
    losses, alone = ([record["loss_nats"] for record in records(tmp_path / name, "gpt2.step")]
                     for name in ("run", "alone"))
    assert losses == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize("way", ["together", "deterministic", "tp=2"] if WHOLE else ["together"])
def test_a_loss_that_is_not_finite_on_one_rank_ends_all_with_one_sentence(
    way: str, train: Callable[..., Ended], shard_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = load_shard_set(shard_directory)
    windows = data_order(0, shards.n_tokens("train"), CONTEXT).windows((BAD_STEP - 1) * BATCH, BATCH)
    with shards.open("train") as tokens:
        row = tokens.read(int(windows[-1]) * CONTEXT, int(windows[-1]) * CONTEXT + CONTEXT)
    poison(monkeypatch, [torch.from_numpy(row.astype(np.int64))], math.nan)
    end = train(2, "run", *WAYS[way], check=False)
    assert end.statuses == [1, 1] and end.err[1] == "", end.err
    (said,) = [line for line in end.err[0].splitlines() if f"step {BAD_STEP}: the loss is nan" in line]
    named = re.search(r"its batch, windows? ([\d, ]+) of train-\S+\.tok\.zst, changed no weight", said)
    assert named is not None and str(int(windows[-1])) in named[1].split(", ") and named[1].count(",") < BATCH / 2
    assert f"stopped after step {BAD_STEP - 1} of 7; the same command goes on from there" in said
    assert sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir())[-1] == f"step-{BAD_STEP - 1:08d}"


@pytest.mark.parametrize("rank", [0, 1] if WHOLE else [1])
@pytest.mark.parametrize("way", WAYS if WHOLE else ORDINARY)
def test_a_weight_that_a_step_could_make_infinite_on_one_rank_ends_all_before_it(
    way: str, rank: int, train: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []

    def allows(self: WeightBound, model: Any, optimizer: Any, lr: float, grad_norm: float, ranks: Ranks) -> bool:
        steps.append(1)
        if len(steps) == BAD_STEP:
            self.forget()
            if ranks.rank == rank:
                with torch.no_grad():
                    held_here(next(iter(model.parameters()))).view(-1)[0] = LARGEST
        return real(self, model, optimizer, lr, grad_norm, ranks)

    real = WeightBound.allows
    monkeypatch.setattr(WeightBound, "allows", allows)
    end = train(2, "run", *WAYS[way], check=False)
    assert end.statuses == [1, 1] and end.err[1] == "", end.err
    (said,) = [line for line in end.err[0].splitlines() if f"step {BAD_STEP} changed no weight" in line]
    assert f"stopped after step {BAD_STEP - 1} of 7; the same command goes on from there" in said
    assert sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir())[-1] == f"step-{BAD_STEP - 1:08d}"
