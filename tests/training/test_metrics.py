"""What a run measures of itself: every layer's gradient and update, its speed as a share of the machine's, memory."""

from __future__ import annotations

import json
import mmap
from pathlib import Path

import numpy as np
import pytest
import torch
from runs_here import config_of, outcome, plan_of, records_of
from safetensors.numpy import load_file

from gpt2cli.model.gpt2 import GPT2
from gpt2cli.records.shard_set import load_shard_set
from gpt2cli.reporter import Silent
from gpt2cli.training import gemm_probe
from gpt2cli.training.batches import TrainingBatches, ValidationSet
from gpt2cli.training.process_memory import peak_rss_bytes, rss_bytes
from gpt2cli.training.step import batch_gradient
from gpt2cli.training.trainer import train
from gpt2cli.training.validation import validate

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_layers_are_measured_as_the_checkpoints_before_and_after_say(shard_directory: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = {"layers": 2, "checkpoint_every": 1, "steps": 4, "clip": 0.1}
    train(plan_of(shard_directory, run, layers_every=3, how={"keep": 9}, **options), Silent())
    (record,) = records_of(run, "gpt2.layers")
    assert record["step"] == 3 and list(record["layers"]) == ["wte", "wpe", "h.0", "h.1", "ln_f"]
    before, after = (load_file(run / f"checkpoints/step-0000000{step}/model.safetensors") for step in (2, 3))
    for layer, measured in record["layers"].items():
        names = [name for name in before if name.startswith(f"transformer.{layer}.")]
        weight = np.sqrt(sum(np.sum(before[name].astype(float) ** 2) for name in names))
        update = np.sqrt(sum(np.sum((after[name] - before[name]).astype(float) ** 2) for name in names))
        assert measured["weight_norm"] == pytest.approx(weight, rel=1e-5)
        assert measured["update_norm"] == pytest.approx(update, rel=1e-3)
        assert measured["update_ratio"] == pytest.approx(update / weight, rel=1e-3)
    step = records_of(run, "gpt2.step")[2]
    whole = sum(measured["grad_norm"] ** 2 for measured in record["layers"].values()) ** 0.5
    assert whole == pytest.approx(step["grad_norm"], rel=1e-5) and whole > 0.1  # before clipping
    model = GPT2(config_of(shard_directory, **options).shape)
    model.load_state_dict({name.removeprefix("transformer."): torch.from_numpy(w) for name, w in before.items()})
    config = config_of(shard_directory, **options)
    with load_shard_set(shard_directory).open("train") as tokens:
        batches = TrainingBatches(tokens, n_ctx=32, batch=4, micro_batch=1, seed=0, device=CPU)
        batch_gradient(model, batches, 3, config, lambda tokens, nll: False)
        batches.close()
    alone = torch.cat([p.grad.flatten() for name, p in model.named_parameters() if name.startswith("h.1.")]).norm()
    assert record["layers"]["h.1"]["grad_norm"] == pytest.approx(float(alone), rel=1e-4)


def test_measuring_layers_changes_nothing_else(shard_directory: Path, tmp_path: Path) -> None:
    for name, every in (("without", 0), ("with", 2)):
        train(plan_of(shard_directory, tmp_path / name, layers_every=every), Silent())
    without, with_them = outcome(tmp_path / "without"), outcome(tmp_path / "with")
    for name in ("model.safetensors", "training/optimizer.safetensors"):
        assert without[name] == with_them[name]
    names = [json.loads((tmp_path / name / "run.json").read_text())["run"] for name in ("without", "with")]
    assert names[0] == names[1]
    assert len(records_of(tmp_path / "with", "gpt2.layers")) == 6
    assert records_of(tmp_path / "with", "gpt2.step") == records_of(tmp_path / "without", "gpt2.step")


def test_speed_is_a_share_of_the_machines_peak(shard_directory: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(plan_of(shard_directory, run), Silent())
    lines = [json.loads(line) for line in (run / "perf.jsonl").read_bytes().splitlines()]
    assert len(lines) == 12
    flops = config_of(shard_directory).shape.train_flops_per_token()
    for line in lines:
        assert line["mfu"] == pytest.approx(line["tokens_per_second"] * flops / line["gemm_flops_per_second"], abs=2e-4)
        assert line["mfu"] > 0
        assert 50e6 < line["rss_bytes"] <= line["peak_rss_bytes"] + 2**20
        assert line["step_seconds"] == pytest.approx(128 / line["tokens_per_second"], rel=0.01)


def test_the_probe_takes_the_fastest_product_of_those_it_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that counts: 0.04 s for a product, but 0.01 s for the second."""
    products: list[torch.dtype] = []

    def mm(a: torch.Tensor, b: torch.Tensor, *, out: torch.Tensor) -> None:
        assert a.shape == b.shape == out.shape == (1024, 1024)
        products.append(a.dtype)

    monkeypatch.setattr(torch, "mm", mm)
    monkeypatch.setattr(gemm_probe, "perf_counter", lambda: 0.04 * len(products) - 0.03 * (len(products) > 1))
    assert gemm_probe.gemm_flops_per_second(CPU, "bf16") == pytest.approx(2 * 1024**3 / 0.01)
    assert set(products) == {torch.bfloat16} and len(products) == 5  # 0.15 s and a little more


def test_memory_is_what_the_system_says() -> None:
    now = rss_bytes()
    assert now is not None
    n_bytes = 64 << 20
    with mmap.mmap(-1, n_bytes) as held:  # from the system: malloc may give pages resident already
        held.write(b"1" * n_bytes)
        more = rss_bytes()
        assert more is not None and n_bytes * 0.9 < more - now < n_bytes * 2.5  # the bytes written may be held too
        assert peak_rss_bytes() >= n_bytes


def test_validation_is_the_same_number_for_every_batch_size(shard_directory: Path) -> None:
    model = GPT2(config_of(shard_directory).shape)
    model.initialise(3)
    with load_shard_set(shard_directory).open("val") as tokens:
        validation = ValidationSet(tokens, n_ctx=32, limit=1000, token_bytes=np.ones(model.shape.n_vocab, np.int64))
    found = [validate(model, validation, size, "fp32", Silent()) for size in (1, 3, 8, 31)]
    assert validation.n_tokens == 1000 and 1000 % 32
    for fields in found[1:]:
        for name in ("nll_nats_per_token", "stderr"):
            assert fields[name] == pytest.approx(found[0][name], rel=1e-6)
        assert (fields["n_tokens"], fields["val_sha256"]) == (1000, validation.sha256)
