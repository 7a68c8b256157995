"""A batch that is not finite or leaps: seen before it moves a weight, named, and dealt with as the policy says."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs_here import SMALL, StopsAt, outcome, plan_of, poison, records_of, train_through_stops

from gpt2cli.errors import Gpt2Error, Interrupted, UsageFault
from gpt2cli.records.shard_set import load_shard_set
from gpt2cli.reporter import Silent
from gpt2cli.tokens.order import data_order
from gpt2cli.training import spikes as spikes_module
from gpt2cli.training.batch_name import batch_files, batch_name
from gpt2cli.training.config import TrainOptions, resolve
from gpt2cli.training.spikes import MOST_ROLLBACKS, MOST_SKIPPED, SpikeDetector
from gpt2cli.training.trainer import train

T, BATCH = int(SMALL["context"]), int(SMALL["batch_tokens"]) // int(SMALL["context"])
NARROW = {"weights": "bf16", "dtype": "bf16"}
Rows = Callable[[int], tuple[int, torch.Tensor]]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def third_row(shard_directory: Path) -> Rows:
    """Of a batch by number: the window of its third sequence, and its tokens."""
    shards = load_shard_set(shard_directory)
    order = data_order(0, shards.n_tokens("train"), T)

    def row(batch: int) -> tuple[int, torch.Tensor]:
        window = int(order.windows((batch - 1) * BATCH, BATCH)[2])
        with shards.open("train") as tokens:
            return window, torch.from_numpy(tokens.read(window * T, window * T + T).astype(np.int64))

    return row


@pytest.mark.parametrize(("loss", "options"), [(True, {}), (False, {}), (False, NARROW)],
                         ids=["loss", "gradient alone", "gradient of bf16 weights"])
def test_a_value_that_is_not_finite_stops_before_the_step_and_names_its_windows(
    shard_directory: Path, tmp_path: Path, third_row: Rows, monkeypatch: pytest.MonkeyPatch, loss: bool,
    options: dict[str, Any],
) -> None:
    train(plan_of(shard_directory, tmp_path / "clean", checkpoint_every=1, how={"keep": 20}, **options), Silent())
    window, row = third_row(6)
    poison(monkeypatch, [row], math.nan, loss=loss)
    with pytest.raises(Gpt2Error) as error:
        train(plan_of(shard_directory, tmp_path / "run", **options), Silent())
    said = str(error.value)
    assert said.startswith("step 6: the loss is ") and "gradient norm nan" in said and error.value.status == 1
    named = re.search(r"its batch, windows? ([\d, ]+) of (train-\S+\.tok\.zst), changed no weight", said)
    assert named is not None
    windows = [int(number) for number in named[1].split(",")]
    # the micro-batch whose loss is at fault, or, where only the gradient is, the whole batch
    assert windows == [window] if loss else len(windows) == BATCH and window in windows
    assert "stopped after step 5 of 12; the same command goes on from there" in said
    for name in ("model.safetensors", "training/optimizer.safetensors"):
        kept, clean = (tmp_path / run / "checkpoints" / "step-00000005" / name for run in ("run", "clean"))
        assert kept.read_bytes() == clean.read_bytes(), name
    with pytest.raises(Gpt2Error, match="step 6: the loss"):
        train(plan_of(shard_directory, tmp_path / "run", **options), Silent())


def test_skip_leaves_weights_and_moments_to_the_bit_and_goes_on(
    shard_directory: Path, tmp_path: Path, third_row: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    window, row = third_row(6)
    poison(monkeypatch, [row], math.inf)
    reporter, run = Silent(), tmp_path / "run"
    train(plan_of(shard_directory, run, on_spike="skip", checkpoint_every=1, how={"keep": 20}), reporter)
    before, after, later = (run / "checkpoints" / f"step-{step:08d}" for step in (5, 6, 7))
    for name in ("model.safetensors", "training/optimizer.safetensors"):
        held = [checkpoint.joinpath(name).read_bytes() for checkpoint in (before, after, later)]
        assert held[0] == held[1] != held[2]
    assert json.loads((run / "checkpoints/step-00000012/training/state.json").read_text())["updates"] == 11
    assert [record["step"] for record in records_of(run, "gpt2.step")] == [1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12]
    (spike,) = records_of(run, "gpt2.spike")
    assert (spike["step"], spike["batch"], spike["policy"], spike["limit"]) == (6, 6, "skip", None)
    assert spike["files"][0]["windows"] == [window]
    assert any("it is left out" in warning for warning in reporter.warnings)


@pytest.mark.parametrize("options", [{}, NARROW], ids=["fp32", "bf16 weights"])
def test_rollback_goes_back_to_the_checkpoint_and_on_with_the_batches_after(
    shard_directory: Path, tmp_path: Path, third_row: Rows, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    poison(monkeypatch, [third_row(5)[1], third_row(7)[1]], math.nan)
    run = tmp_path / "run"
    train(plan_of(shard_directory, run, on_spike="rollback", **options), Silent())
    assert [record["step"] for record in records_of(run, "gpt2.step")] == list(range(1, 13))
    spikes = records_of(run, "gpt2.spike")
    # batch 5 spikes at step 5, batches 6 and on are tried at step 4 on, batch 7 spikes at step 5 again
    assert [(s["step"], s["batch"], s["back_to"]) for s in spikes] == [(5, 5, 3), (5, 7, 3)]
    state = json.loads((run / "checkpoints/step-00000012/training/state.json").read_text())
    assert state["batches_left_out"] == 4


@pytest.mark.parametrize("stopped", [False, True])
def test_rollback_without_a_checkpoint_begins_anew(
    shard_directory: Path, tmp_path: Path, third_row: Rows, monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    """Also in a run that goes on from where it was stopped, which is no place to go back to."""
    poison(monkeypatch, [third_row(2)[1]], math.nan)
    run = tmp_path / "run"
    if stopped:
        with pytest.raises(Interrupted):
            train(plan_of(shard_directory, run, on_spike="rollback"), StopsAt(6))
    train(plan_of(shard_directory, run, on_spike="rollback"), Silent())
    assert [(s["step"], s["back_to"]) for s in records_of(run, "gpt2.spike")] == [(2, 0)]
    assert len(records_of(run, "gpt2.run")) == 1
    assert [record["step"] for record in records_of(run, "gpt2.step")] == list(range(1, 13))


@pytest.mark.parametrize("policy", ["skip", "rollback"])
@pytest.mark.parametrize("every", [13, 21])
def test_a_run_with_the_detector_on_is_resumed_to_the_bit(
    shard_directory: Path, tmp_path: Path, third_row: Rows, monkeypatch: pytest.MonkeyPatch, policy: str, every: int
) -> None:
    """A finite leap; stopped within micro-batches and within evaluations, which take 4 and 8 polls."""
    monkeypatch.setattr(spikes_module, "LEAST", 3)
    poison(monkeypatch, [third_row(batch)[1] for batch in (8, 13)], 30.0)
    options: dict[str, Any] = {"on_spike": policy, "steps": 16}
    train(plan_of(shard_directory, tmp_path / "whole", **options), Silent())
    whole = records_of(tmp_path / "whole", "gpt2.spike")
    assert len(whole) == 2 and all(spike["limit"] > 0 for spike in whole)
    _, stops = train_through_stops(lambda: plan_of(shard_directory, tmp_path / "parts", **options), every)
    assert stops > 2
    assert outcome(tmp_path / "parts") == outcome(tmp_path / "whole")


def test_what_spikes_for_ever_is_no_spike(
    shard_directory: Path, tmp_path: Path, third_row: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, [third_row(batch)[1] for batch in range(3, 40)], math.nan)
    with pytest.raises(Gpt2Error, match=f"step {2 + MOST_SKIPPED + 1}: .*nor did the {MOST_SKIPPED} before it"):
        train(plan_of(shard_directory, tmp_path / "skip", on_spike="skip", steps=20), Silent())
    reporter = StopsAt()
    with pytest.raises(Gpt2Error, match=f"going back {MOST_ROLLBACKS} times did not help"):
        train(plan_of(shard_directory, tmp_path / "back", on_spike="rollback", steps=20), reporter)
    assert sum("going back to step 0" in warning for warning in reporter.warnings) == MOST_ROLLBACKS


def test_the_detector_knows_a_leap_from_noise_and_hides_none_behind_another() -> None:
    rng = np.random.default_rng(0)
    detector = SpikeDetector(6.0)
    for _ in range(500):
        loss, norm = float(rng.normal(4, 0.05)), float(rng.lognormal(0, 0.1))
        assert detector.judge(loss, norm) is None
        detector.accept(loss, norm)
    for _ in range(2):
        leap = detector.judge(5.0, 1.0)
        assert leap is not None and leap.limit == pytest.approx(4.3, abs=0.1)
    assert "gradient norm is 9" in str(detector.judge(4.0, 9.0))
    assert detector.judge(3.0, 0.1) is None
    assert SpikeDetector(None).judge(1e9, 1e9) is None
    other = SpikeDetector(6.0)
    other.restore(json.loads(json.dumps(detector.state())))
    assert other.state() == detector.state()


def test_a_batch_is_named_by_shard_and_window(shard_directory: Path) -> None:
    shards = load_shard_set(shard_directory)
    (entry,) = shards.files("train")
    files = batch_files(shards, 10, np.array([5, 3, *range(100, 110)]))
    assert files == [{"file": entry.name, "windows": [3, 5, *range(100, 110)]}]
    assert batch_name(files) == f"windows 3, 5, 100, 101, 102, 103, 104, 105 and 4 more of {entry.name}"


def test_sigmas_without_a_policy_are_refused() -> None:
    with pytest.raises(UsageFault, match="goes with --on-spike"):
        resolve(TrainOptions(steps=2, spike_sigmas=3.0), n_vocab=500, train_tokens=10**6, native_bf16=False)
    made = resolve(TrainOptions(steps=2, on_spike="skip"), n_vocab=500, train_tokens=10**6, native_bf16=False)
    assert made.spike_sigmas == 6.0
