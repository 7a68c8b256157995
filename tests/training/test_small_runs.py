"""Runs of small networks by their own compiled pass: chosen where it can be, the same losses as without, resumable."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from compiled_passes import needs_small_network
from in_process import gpt2_here as gpt2_here

from gpt2cli.errors import UsageFault
from gpt2cli.model.gpt2 import GPT2
from gpt2cli.model.small_network import SmallNetwork, small_network_library
from gpt2cli.training import step_speed
from gpt2cli.training.compiling import with_compiling
from gpt2cli.training.config import TrainConfig, TrainOptions, resolve
from gpt2cli.training.step import clip_gradient
from gpt2cli.training.step_speed import StepSpeed

CPU = torch.device("cpu")


pytestmark = needs_small_network()


def _config(**changes: object) -> TrainConfig:
    options = TrainOptions(layers=1, heads=1, embd=16, context=16, batch_tokens=64, steps=4, dtype="fp32")
    return replace(resolve(options, n_vocab=300, train_tokens=10_000, native_bf16=False), **changes)  # type: ignore[arg-type]


def test_small_networks_in_fp32_are_native_by_default() -> None:
    assert with_compiling(_config(), "auto", CPU, False).compile == "native"


@pytest.mark.parametrize(("changes", "divided", "why"), [
    ({"n_embd": 512}, False, "up to 256 wide"), ({"n_ctx": 24}, False, "multiple of 16"),
    ({"n_vocab": 50257}, False, "8,192"), ({"dropout": 0.1}, False, "no dropout"),
    ({"doc_mask": True}, False, "no --doc-mask"), ({"dtype": "fp16"}, False, "not fp16"), ({}, True, "whole models"),
])  # fmt: skip
def test_where_it_cannot_be_auto_is_off_and_native_says_why(
    changes: dict[str, object], divided: bool, why: str
) -> None:
    config = _config(**changes)
    assert with_compiling(config, "auto", CPU, divided).compile == "off"
    with pytest.raises(UsageFault, match=why):
        with_compiling(config, "native", CPU, divided)


def _lines(run: Path, kind: str) -> list[dict[str, object]]:
    records = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [record for record in records if record["schema"] == f"gpt2.{kind}/1"]


_RUN = ("--layers", 2, "--embd", 24, "--heads", 3, "--context", 32, "--batch-tokens", 256, "--dtype", "fp32",
        "--lr", 5e-3, "--warmup", 2, "--threads", 1, "--eval-tokens", 256, "-q")


@pytest.fixture
def train(gpt2_here: Callable[..., Any], shard_directory: Path) -> Callable[..., None]:
    """Run `gpt2 train ... -o RUN` with the options of a small network and more."""

    def run(directory: Path, *more: object) -> None:
        done = gpt2_here("train", shard_directory, "-o", directory, *_RUN, *more)
        assert done.returncode in (0, 75), done.stderr

    return run


def test_losses_are_those_of_autograd(train: Callable[..., None], tmp_path: Path) -> None:
    for how in ("native", "off"):
        train(tmp_path / how, "--steps", 40, "--compile", how)
    native, autograd = (_lines(tmp_path / how, "step") for how in ("native", "off"))
    assert len(native) == 40
    for ours, theirs in zip(native, autograd, strict=True):
        assert ours["loss_nats"] == pytest.approx(theirs["loss_nats"], rel=1e-4)
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=2e-3)


def test_micro_batches_are_memory_alone(train: Callable[..., None], tmp_path: Path) -> None:
    for size in (8, 3):
        train(tmp_path / str(size), "--steps", 20, "--micro-batch", size, "--compile", "native")
    for whole, parts in zip(_lines(tmp_path / "8", "step"), _lines(tmp_path / "3", "step"), strict=True):
        assert whole["loss_nats"] == pytest.approx(parts["loss_nats"], rel=1e-4)


@pytest.mark.parametrize("more", [(), ("--deterministic", "--micro-batch", 2)])
def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(
    train: Callable[..., None], tmp_path: Path, more: tuple[object, ...]
) -> None:
    train(tmp_path / "whole", "--steps", 6, *more)
    for _ in range(20):
        train(tmp_path / "parts", "--steps", 6, "--max-time", 1e-9, *more)
        if (tmp_path / "parts" / "manifest.json").exists():
            break
    for name in ("metrics.jsonl", "checkpoints/step-00000006/model.safetensors",
                 "checkpoints/step-00000006/training/optimizer.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes(), name
    assert json.loads((tmp_path / "whole" / "run.json").read_text())["config"]["compile"] == "native"


@pytest.mark.parametrize("limit", [0.0, 0.5, 1e9])
def test_one_gradient_is_clipped_as_many_are(limit: float) -> None:
    model = GPT2(_config().shape)
    model.initialise(3)
    model.native = network = SmallNetwork(model, small_network_library(), reuse=True)
    ids = torch.randint(0, 300, (4, 17), generator=torch.Generator().manual_seed(0))
    network.add(ids[:, :-1], ids[:, 1:], 0.1)
    assert network.whole_gradient() is not None
    copies = [torch.nn.Parameter(parameter.detach()) for parameter in model.parameters()]
    for copy, parameter in zip(copies, model.parameters(), strict=True):
        assert parameter.grad is not None
        copy.grad = parameter.grad.clone()
    expected = float(torch.nn.utils.clip_grad_norm_(copies, limit or float("inf")))
    assert clip_gradient(model, limit) == pytest.approx(expected, rel=1e-6)
    for copy, parameter in zip(copies, model.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, copy.grad, rtol=1e-6, atol=0)


def test_memory_is_asked_for_at_long_steps_and_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    asked: list[float] = []

    def peak() -> int:
        asked.append(now)
        return len(asked)

    monkeypatch.setattr(step_speed, "perf_counter", lambda: now)
    monkeypatch.setattr(step_speed, "peak_rss_bytes", peak)
    speed = StepSpeed(_config(), 1e9)
    for after, seconds in ((0.0, 0.001), (0.002, 0.001), (0.15, 0.001), (0.002, 5.0), (0.002, 0.001)):
        now += after
        fields = speed.fields(seconds)
        assert fields["peak_rss_bytes"] == len(asked)
    assert asked == pytest.approx([100.0, 100.152, 100.154])
