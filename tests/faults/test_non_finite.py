"""What is not finite, or leaps, is caught before the step, whatever computes it: in a batch's loss, in a gradient
alone, in a weight; by every arithmetic and compiled pass that trains.

What the policies do, and naming the batch, are tested in fp32 in tests/training/test_spikes.py; this is the rest.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from compiled_passes import needs_native_kernels, needs_small_network
from faults.file_damage import WHOLE
from runs_here import SMALL, config_of, outcome, plan_of, poison, records_of, train_through_stops

from gpt2cli.errors import Gpt2Error
from gpt2cli.model.gpt2 import GPT2
from gpt2cli.model.weights import write_tensors
from gpt2cli.records.checkpoint import newest_verified
from gpt2cli.records.shard_set import load_shard_set
from gpt2cli.reporter import Silent
from gpt2cli.tokens.order import data_order
from gpt2cli.training import spikes as spikes_module
from gpt2cli.training import step as step_module
from gpt2cli.training import trainer as trainer_module
from gpt2cli.training.compiling import use_compiled, with_compiling
from gpt2cli.training.config import TrainConfig
from gpt2cli.training.plan import TrainPlan
from gpt2cli.training.precision import prepare
from gpt2cli.training.spikes import SpikeDetector
from gpt2cli.training.step import clip_gradient, micro_batch_gradient
from gpt2cli.training.trainer import train

CPU = torch.device("cpu")
T, BATCH = int(SMALL["context"]), int(SMALL["batch_tokens"]) // int(SMALL["context"])
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "fp32": ("off", {"dtype": "fp32"}), "bf16": ("off", {"dtype": "bf16"}), "fp16": ("off", {"dtype": "fp16"}),
    "bf16 weights": ("off", {"dtype": "bf16", "weights": "bf16"}),
    "small network": ("native", {"dtype": "fp32"}), "native bf16": ("native", {"dtype": "bf16"}),
    "native bf16 weights": ("native", {"dtype": "bf16", "weights": "bf16"}),
}
NEEDS = {"small network": [needs_small_network()], "native bf16": [needs_native_kernels()],
         "native bf16 weights": [needs_native_kernels()]}
ORDINARY = ("small network",)
"""Ways whose whole runs are trained in every run of the tests; the others are left to make test-faults."""


def ways(names: Iterable[str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("way", [pytest.param(name, marks=NEEDS.get(name, [])) for name in names])


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(trainer_module, "gemm_flops_per_second", lambda *_: 1e9)  # slow in fp16 on a CPU


def config(shards: Path, way: str, **options: Any) -> TrainConfig:
    compiled, how = WAYS[way]
    return with_compiling(config_of(shards, heads=1, **how, **options), compiled, CPU, False)


def plan(shards: Path, directory: Path, way: str, **options: Any) -> TrainPlan:
    how = options.pop("how", {})
    return replace(plan_of(shards, directory, how=how), config=config(shards, way, **options))


@pytest.fixture
def third_row(shard_directory: Path) -> Callable[[int], torch.Tensor]:
    """Of a batch by number: the tokens of its third sequence."""
    shards = load_shard_set(shard_directory)
    order = data_order(0, shards.n_tokens("train"), T)

    def row(batch: int) -> torch.Tensor:
        window = int(order.windows((batch - 1) * BATCH, BATCH)[2])
        with shards.open("train") as tokens:
            return torch.from_numpy(tokens.read(window * T, window * T + T).astype(np.int64))

    return row


@ways(WAYS)
def test_a_weight_that_is_not_a_number_shows_in_the_loss_or_the_gradient(way: str, shard_directory: Path) -> None:
    """In every tensor of the network: no kernel loses it."""
    settings = config(shard_directory, way)
    rows = torch.randint(settings.shape.n_vocab, (2, T + 1), generator=torch.Generator().manual_seed(1))
    model = GPT2(settings.shape).train()
    model.initialise(1)
    prepare(model, settings)
    use_compiled(model, settings)
    blind = []
    for name, parameter in model.named_parameters():
        flat = parameter.data.view(-1)
        for place in (0, len(flat) // 2, len(flat) - 1):
            sound = flat[place].clone()
            flat[place] = math.nan
            model.zero_grad(set_to_none=True)
            if model.native is not None:
                model.native.forget_weights()
            loss = float(micro_batch_gradient(model, rows[:, :-1], rows[:, 1:], settings, 2 * T))
            if SpikeDetector(None).judge(loss, clip_gradient(model, 1.0)) is None:
                blind.append((name, place))
            flat[place] = sound
    assert blind == []


@ways(WAYS if WHOLE else ORDINARY)
def test_a_bad_gradient_and_a_leap_are_left_out_and_a_resumed_run_is_the_same(
    way: str, shard_directory: Path, tmp_path: Path, third_row: Callable[[int], torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """NaN in batch 5's gradient alone, and batch 9's loss ten times what it was."""
    monkeypatch.setattr(spikes_module, "LEAST", 3)
    poison(monkeypatch, [third_row(5)], math.nan, loss=False)
    poison(monkeypatch, [third_row(9)], 40.0)  # of one of four sequences
    options = {"on_spike": "skip", "steps": 10, "lr": 1e-3}
    whole = tmp_path / "whole"
    train(plan(shard_directory, whole, way, checkpoint_every=1, how={"keep": 20}, **options), Silent())
    spikes = records_of(whole, "gpt2.spike")
    assert [(one["step"], one["limit"] is None) for one in spikes] == [(5, True), (9, False)]
    for step in (5, 9):
        before, after = (whole / "checkpoints" / f"step-{number:08d}" for number in (step - 1, step))
        for name in ("model.safetensors", "training/optimizer.safetensors"):
            assert (before / name).read_bytes() == (after / name).read_bytes()
    assert json.loads((after / "training/state.json").read_text())["updates"] == 7
    # in fp16 batch 5 is computed 17 times, under smaller and smaller factors, before the step is given up
    _, stops = train_through_stops(
        lambda: plan(shard_directory, tmp_path / "parts", way, checkpoint_every=1, how={"keep": 20}, **options),
        79 if way == "fp16" else 23)
    assert stops >= 1 and outcome(tmp_path / "parts") == outcome(whole)


@pytest.mark.parametrize("policy", ["stop", "skip", "rollback"] if WHOLE else ["stop"])
def test_a_weight_that_goes_bad_in_memory_is_never_saved(
    policy: str, shard_directory: Path, tmp_path: Path, third_row: Callable[[int], torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rolling back mends it; else the run stops, and the same command goes on from what was saved before."""
    bad, real = third_row(6), step_module.micro_batch_gradient
    options = {} if policy == "stop" else {"on_spike": policy}
    run, clean = tmp_path / "run", tmp_path / "clean"
    train(plan(shard_directory, clean, "fp32", **options), Silent())

    def failing(model: GPT2, inputs: torch.Tensor, *others: Any) -> torch.Tensor:
        if any(torch.equal(row, bad) for row in inputs):
            model.h[0].mlp.c_fc.bias.data[3] = math.nan
        return real(model, inputs, *others)

    with monkeypatch.context() as patch:
        patch.setattr(step_module, "micro_batch_gradient", failing)
        if policy == "rollback":
            train(plan(shard_directory, run, "fp32", **options), Silent())
        else:
            with pytest.raises(Gpt2Error, match=r"h\.0\.mlp\.c_fc\.bias holds a value that is not finite, so nothing"):
                train(plan(shard_directory, run, "fp32", **options), Silent())
    said: list[str] = []
    kept = newest_verified(run, said.append, weights_only=False)
    assert kept is not None and said == []
    train(plan(shard_directory, run, "fp32", **options), Silent())
    assert (outcome(run) == outcome(clean)) == (policy != "rollback")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_no_tensor_is_written_with_what_is_not_finite(tmp_path: Path, value: float, dtype: torch.dtype) -> None:
    tensor = torch.full((1000,), 3e4, dtype=dtype)  # finite ones whose sum in their own type is not
    write_tensors({"a": tensor}, tmp_path / "sound")
    tensor[500] = value
    with pytest.raises(Gpt2Error, match="a holds a value that is not finite"):
        write_tensors({"a": tensor}, tmp_path / "x")
