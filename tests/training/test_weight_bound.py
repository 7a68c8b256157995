"""No step makes a number that is not finite: what could is stopped before, and a sane run is never looked at."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from runs_here import StopsAt, plan_of
from safetensors.torch import load_file, save_file

from gpt2cli.errors import BadInput, Gpt2Error, Interrupted
from gpt2cli.model.gpt2 import GPT2
from gpt2cli.records.checkpoint import write_manifest
from gpt2cli.reporter import Silent
from gpt2cli.training.checkpointing import OPTIMIZER, checkpoint_path, read_checkpoint
from gpt2cli.training.config import TrainConfig, TrainOptions, resolve
from gpt2cli.training.optimizer import AdamW
from gpt2cli.training.ranks import ALONE
from gpt2cli.training.trainer import train
from gpt2cli.training.weight_bound import WeightBound

FORMS = {"fp32": {}, "bf16 weights": {"weights": "bf16", "dtype": "bf16"}, "bf16 moments": {"moments": "bf16"}}


def settings(**changes: object) -> TrainConfig:
    options = TrainOptions(layers=1, embd=16, heads=1, context=16, batch_tokens=64, steps=9)
    config = resolve(options, n_vocab=97, train_tokens=20_000, native_bf16=False)
    return replace(config, **changes)  # type: ignore[arg-type]


def network() -> GPT2:
    made = GPT2(settings().shape)
    made.initialise(0)
    return made


def is_finite(model: GPT2, optimizer: AdamW) -> bool:
    tensors = [*model.parameters(), *(moment for _, moment in optimizer.named_moments())]
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("changes", [{"lr": 9e18}, {"lr": 9e18, "weight_decay": 9e18}, {"weight_decay": 9e18},
                                     {"clip": 0.0}, {"clip": 9e18}, {"lr": 9e18, "clip": 0.0}, {}])
def test_every_step_that_is_allowed_leaves_all_finite(form: str, changes: dict[str, float]) -> None:
    config = settings(**(FORMS[form] | changes))
    for seed in range(4):
        model, bound = network().to(torch.bfloat16 if config.weights == "bf16" else torch.float32), WeightBound(config)
        optimizer = AdamW(model, config)
        generator = torch.Generator().manual_seed(seed)
        allowed = 0
        for step in range(40):
            size = 10.0 ** float(torch.empty(()).uniform_(-20, 19, generator=generator))
            for parameter in model.parameters():
                # of one sign, and mostly nothing: what makes Adam's updates large
                parameter.grad = (torch.rand(parameter.shape, generator=generator) < 0.1).to(parameter.dtype) * size
            norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip or math.inf))
            if not math.isfinite(norm) or not bound.allows(model, optimizer, config.lr, norm, ALONE):
                continue
            optimizer.step(config.lr)
            allowed += 1
            assert is_finite(model, optimizer), (seed, step)
        assert allowed or config.lr * config.weight_decay > 1e19


def test_a_sane_run_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    look = WeightBound._look
    monkeypatch.setattr(WeightBound, "_look", lambda self, *args: (looks.append(1), look(self, *args)))
    config = settings(lr=6e-3)
    model, bound = network(), WeightBound(config)
    optimizer = AdamW(model, config)
    assert all(bound.allows(model, optimizer, config.lr, 1e3, ALONE) for _ in range(100_000))
    assert len(looks) == 1
    bound.forget()
    assert bound.allows(model, optimizer, config.lr, 1e3, ALONE) and len(looks) == 2


@pytest.mark.parametrize("form", FORMS)
def test_a_run_that_could_make_one_stops_before_and_keeps_a_finite_state(
    shard_directory: Path, tmp_path: Path, form: str
) -> None:
    with pytest.raises(Interrupted):
        train(plan_of(shard_directory, tmp_path / "run", eval_every=12, **FORMS[form]), StopsAt(18))
    before = weights_in(tmp_path / "run")
    for _ in range(2):
        reckless = plan_of(shard_directory, tmp_path / "run", eval_every=12, lr=1e30, how={"override": True},
                           **FORMS[form])
        with pytest.raises(Gpt2Error, match=r"^step 5 changed no weight: with its learning rate of \S+e\+\d\d, weight "
                                            r"decay of 0.1 and a gradient of norm \S+ it could make a number that is "
                                            r"not finite.* stopped after step 4 of 12; the same command goes on from"):
            train(reckless, Silent())
        assert weights_in(tmp_path / "run") == before


def weights_in(run: Path) -> dict[str, bytes]:
    files = sorted(run.rglob("*.safetensors"))
    assert files and all(bool(torch.isfinite(tensor).all()) for path in files for tensor in load_file(path).values())
    return {str(path): path.read_bytes() for path in files}


def _first(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict[str, torch.Tensor]], None]:
    def apply(moments: dict[str, torch.Tensor]) -> None:
        name = "exp_avg_sq.wte.weight"
        moments[name] = change(moments[name])
    return apply


@pytest.mark.parametrize(("edit", "said"), [
    (_first(lambda tensor: -tensor - 1), "lies between -.* no step of Adam makes"),
    (_first(lambda tensor: tensor + math.inf), "lies between inf and inf, which no step"),
    (_first(lambda tensor: tensor * math.nan), "lies between nan and nan, which no step"),
    (_first(lambda tensor: tensor[1:].contiguous()), r"has the shape \(\d+, \d+\) and the type torch.float32; the mod"),
    (_first(lambda tensor: tensor.long()), "the type torch.int64"),
    (dict.clear, "does not hold this model's optimizer state"),
], ids=["negative", "infinite", "nan", "shape", "type", "missing"])
def test_moments_that_no_step_makes_are_refused_whatever_the_manifest_says(
    shard_directory: Path, tmp_path: Path, edit: Callable[[dict[str, torch.Tensor]], None], said: str
) -> None:
    plan = plan_of(shard_directory, tmp_path / "run", checkpoint_every=2)
    train(plan, Silent())
    checkpoint = checkpoint_path(tmp_path / "run", plan.config.steps)
    moments = load_file(checkpoint / OPTIMIZER)
    edit(moments)
    save_file(moments, checkpoint / OPTIMIZER)
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    write_manifest(checkpoint, "gpt2.checkpoint", {}, list(manifest["files"]))
    model = GPT2(plan.config.shape)
    with pytest.raises(BadInput, match=said):
        read_checkpoint(checkpoint, model, AdamW(model, plan.config))
