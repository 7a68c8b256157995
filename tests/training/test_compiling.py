"""--compile: what auto means, what is refused, and that a compiled run learns the same."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from compiled_passes import needs_native_kernels
from in_process import gpt2_here  # noqa: F401  (a fixture)
from runs_here import outcome, records_of

from gpt2cli.errors import UsageFault
from gpt2cli.model import native_kernels as kernels
from gpt2cli.model.gpt2 import GPT2
from gpt2cli.training.compiling import use_compiled, with_compiling
from gpt2cli.training.config import TrainConfig, TrainOptions, resolve
from gpt2cli.training.step import micro_batch_gradient

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]
CPU = torch.device("cpu")
HOW = ("--layers", 2, "--embd", 32, "--heads", 2, "--context", 32, "--batch-tokens", 128, "--steps", 6,
       "--checkpoint-every", 3, "--eval-tokens", 256, "--threads", 1, "--dtype", "bf16", "-q")


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


native = needs_native_kernels()


def config(**options: object) -> TrainConfig:
    asked = {"layers": 2, "embd": 32, "heads": 2, "context": 32, "batch_tokens": 256, "steps": 50, "dtype": "bf16"}
    return resolve(TrainOptions(**{**asked, **options}), n_vocab=97, train_tokens=20_000, native_bf16=True)  # type: ignore[arg-type]


@native
@pytest.mark.parametrize("options", [{"dropout": 0.1}, {"doc_mask": True}, {"heads": 4}, {"dtype": "fp16"}])
def test_auto_is_native_where_that_computes_the_same_and_off_elsewhere(options: dict[str, object]) -> None:
    assert with_compiling(config(), "auto", CPU, False).compile == "native"
    assert with_compiling(config(weights="bf16"), "auto", CPU, False).compile == "native"
    assert with_compiling(config(**options), "auto", CPU, False).compile == "off"
    with pytest.raises(UsageFault, match="--compile native cannot be here"):
        with_compiling(config(**options), "native", CPU, False)


def test_a_divided_model_and_a_gpu_are_not_compiled_by_kernels() -> None:
    assert with_compiling(config(), "auto", CPU, True).compile == "off"
    assert with_compiling(config(), "auto", torch.device("cuda"), False).compile == "off"
    for asked in ("native", "torch"):
        with pytest.raises(UsageFault, match="--parallel"):
            with_compiling(config(), asked, CPU, True)


@native
def test_a_native_run_learns_what_one_without_learns_and_says_which_it_is(
    gpt2_here: Run, shard_directory: Path, tmp_path: Path  # noqa: F811
) -> None:
    runs = {how: tmp_path / how for how in ("native", "off")}
    for how, run in runs.items():
        gpt2_here("train", shard_directory, *HOW, "--compile", how, "-o", run, check=True)
        assert json.loads((run / "run.json").read_text())["config"]["compile"] == how
    losses = {how: [record["loss_nats"] for record in records_of(run, "gpt2.step")] for how, run in runs.items()}
    assert losses["native"] == pytest.approx(losses["off"], rel=1e-3) and losses["native"] != losses["off"]
    lean = tmp_path / "lean"
    gpt2_here("train", shard_directory, *HOW, "--activation-checkpointing", "-o", lean, check=True)
    assert outcome(lean) == outcome(runs["native"])  # and auto is native


@native
def test_a_native_run_of_bf16_weights_learns_alike_and_is_resumed_to_the_same_bytes(
    gpt2_here: Run, shard_directory: Path, tmp_path: Path  # noqa: F811
) -> None:
    narrow = (*HOW, "--weights", "bf16", "--micro-batch", 2)
    for how in ("native", "off"):
        gpt2_here("train", shard_directory, *narrow, "--compile", how, "-o", tmp_path / how, check=True)
    losses = {how: [record["loss_nats"] for record in records_of(tmp_path / how, "gpt2.step")]
              for how in ("native", "off")}
    assert losses["native"] == pytest.approx(losses["off"], rel=2e-3) and losses["native"] != losses["off"]
    stopped = gpt2_here("train", shard_directory, *narrow, "--max-time", 1e-9, "-o", tmp_path / "parts")
    assert stopped.returncode == 75
    gpt2_here("train", shard_directory, *narrow, "-o", tmp_path / "parts", check=True)
    assert outcome(tmp_path / "parts") == outcome(tmp_path / "native")


@native
def test_a_run_stopped_and_resumed_has_the_same_bytes_and_keeps_its_choice(
    gpt2_here: Run, shard_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    gpt2_here("train", shard_directory, *HOW, "-o", whole, check=True)
    stopped = gpt2_here("train", shard_directory, *HOW, "--max-time", 1e-9, "-o", parted)
    assert stopped.returncode == 75
    other = gpt2_here("train", shard_directory, *HOW, "--compile", "off", "-o", parted)
    assert other.returncode == 2 and b"compile: native there, off asked" in other.stderr.replace(b"'", b"")
    with monkeypatch.context() as patch:
        patch.setenv("CXX", "/no/such/compiler")
        kernels.native_kernels.cache_clear()
        without = gpt2_here("train", shard_directory, *HOW, "-o", parted)
        kernels.native_kernels.cache_clear()
    assert without.returncode == 2 and b"/no/such/compiler" in without.stderr and b"--compile off" in without.stderr
    gpt2_here("train", shard_directory, *HOW, "-o", parted, check=True)
    assert outcome(parted) == outcome(whole)


@pytest.mark.slow
def test_torch_compile_of_blocks_changes_rounding_and_no_name() -> None:
    try:
        kernels.cxx_compiler()
    except kernels.NoKernelsError as error:
        pytest.skip(f"torch.compile needs a C++ compiler as well: {error}")
    settings = replace(config(dtype="fp32"), compile="torch")
    rows = torch.randint(97, (2, 33), generator=torch.Generator().manual_seed(1))
    found = []
    for chosen in (settings, replace(settings, compile="off")):
        model = GPT2(settings.shape).train()
        model.initialise(1)
        names = list(model.state_dict())
        use_compiled(model, chosen)
        nll = micro_batch_gradient(model, rows[:, :-1], rows[:, 1:], chosen, 64)
        assert list(model.state_dict()) == names
        found.append((float(nll), [parameter.grad for parameter in model.parameters()]))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    for compiled, plain in zip(found[0][1], found[1][1], strict=True):
        assert compiled is not None and plain is not None
        torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=1e-6)
