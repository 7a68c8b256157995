"""fp16: the factor found as training goes, a batch that overflows computed again, and a run like that in fp32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from runs_here import outcome, plan_of, records_of, train_through_stops

from gpt2cli.model.gpt2 import GPT2
from gpt2cli.model.nll import sum_nll
from gpt2cli.reporter import Silent
from gpt2cli.training import loss_scale
from gpt2cli.training import step as step_module
from gpt2cli.training.loss_scale import LARGEST, LossScale
from gpt2cli.training.trainer import train


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_the_factor_halves_on_overflow_doubles_in_time_and_stays_a_power_of_two() -> None:
    scale = LossScale(dynamic=True)
    assert scale.value == 65_536
    assert scale.lower() and scale.value == 32_768
    for _ in range(loss_scale.STEPS_TO_DOUBLE):
        scale.accept()
    assert scale.value == 65_536
    other = LossScale(dynamic=True)
    for _ in range(7):
        scale.accept()
    other.restore(scale.state())
    assert other.state() == scale.state() == {"value": 65_536.0, "steps": 7}
    while scale.lower():
        pass
    assert scale.value == 1.0 and not scale.lower()
    for _ in range(40 * loss_scale.STEPS_TO_DOUBLE):
        scale.accept()
    assert scale.value == LARGEST
    constant = LossScale(dynamic=False)
    constant.accept()
    assert (constant.value, constant.lower(), constant.state()) == (1.0, False, None)


def test_a_run_in_fp16_learns_as_one_in_fp32(shard_directory: Path, tmp_path: Path) -> None:
    losses = {}
    for dtype in ("fp32", "fp16"):
        train(plan_of(shard_directory, tmp_path / dtype, dtype=dtype, steps=20), Silent())
        losses[dtype] = [record["loss_nats"] for record in records_of(tmp_path / dtype, "gpt2.step")]
    assert losses["fp16"] == pytest.approx(losses["fp32"], abs=0.02)
    assert losses["fp32"][0] - losses["fp32"][-1] > 0.3


def test_an_overflowing_batch_is_computed_again_under_half_the_factor(
    shard_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And interrupted anywhere the run is the same, the factor and its count with it."""
    monkeypatch.setattr(loss_scale, "STEPS_TO_DOUBLE", 5)
    real, tried = step_module.micro_batch_gradient, []

    def overflows(model: GPT2, inputs: torch.Tensor, targets: Any, config: Any, count: int, scale: float = 1.0,
                  *others: Any) -> torch.Tensor:
        nll = real(model, inputs, targets, config, count, scale, *others)
        tried.append(scale)
        if scale > 20_000:
            next(model.parameters()).grad[0, 0] = float("inf")
        return nll

    monkeypatch.setattr(step_module, "micro_batch_gradient", overflows)
    options = {"dtype": "fp16"}
    train(plan_of(shard_directory, tmp_path / "whole", **options), Silent())
    assert len(records_of(tmp_path / "whole", "gpt2.step")) == 12
    assert {16_384.0, 32_768.0, 65_536.0} <= set(tried)
    _, stops = train_through_stops(lambda: plan_of(shard_directory, tmp_path / "parts", **options), 21)
    assert stops > 2 and outcome(tmp_path / "parts") == outcome(tmp_path / "whole")


def test_the_heads_gradient_in_fp16_keeps_small_probabilities() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 16, generator=generator)
    wte = 0.02 * torch.randn(5000, 16, generator=generator)
    targets = torch.randint(5000, (40,), generator=generator)
    found = []
    for dtype in (torch.float32, torch.float16):
        leaves = [tensor.clone().requires_grad_() for tensor in (x, wte)]
        sum_nll(leaves[0], leaves[1], targets, dtype).backward()
        found.append([leaf.grad for leaf in leaves])
    for exact, half in zip(*found, strict=True):
        assert exact is not None and half is not None
        assert float((half - exact).norm() / exact.norm()) < 1e-3
    rare = torch.ones(5000, dtype=torch.bool)
    rare[targets] = False
    exact, half = found[0][1][rare], found[1][1][rare]
    assert float((half - exact).norm() / exact.norm()) < 2e-3
