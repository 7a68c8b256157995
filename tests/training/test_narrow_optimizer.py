"""bf16 weights with fp32 masters, bf16 moments: nothing lost that fp32 has, the same learning, the same resume."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from compiled_passes import needs_native_kernels
from hypothesis import given
from hypothesis import strategies as st
from runs_here import outcome, plan_of, records_of, train_through_stops
from safetensors.torch import load_file

from gpt2cli.errors import UsageFault
from gpt2cli.model.gpt2 import GPT2
from gpt2cli.reporter import Silent
from gpt2cli.training import narrow_adamw
from gpt2cli.training.config import TrainConfig, TrainOptions, resolve
from gpt2cli.training.master_weights import divide, join
from gpt2cli.training.optimizer import AdamW
from gpt2cli.training.precision import prepare, total_norm
from gpt2cli.training.stochastic_rounding import RoundingNoise, round_into
from gpt2cli.training.trainer import train

BF16 = torch.bfloat16
NARROW = {"weights": "bf16", "dtype": "auto"}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def config(**options: object) -> TrainConfig:
    asked = {"layers": 2, "embd": 32, "heads": 2, "context": 16, "batch_tokens": 64, "micro_batch": 4, "steps": 9,
             **options}
    return resolve(TrainOptions(**asked), n_vocab=97, train_tokens=20_000, native_bf16=False)  # type: ignore[arg-type]


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-2.0**127, max_value=2.0**127),
                min_size=1))
def test_two_halves_are_the_whole_and_the_upper_one_is_the_nearest(numbers: list[float]) -> None:
    weights = torch.tensor(numbers)
    high, low = torch.empty(len(weights), dtype=BF16), torch.empty(len(weights), dtype=torch.int16)
    divide(weights, high, low)
    assert torch.equal(join(high, low).view(torch.int32), weights.view(torch.int32))
    assert torch.equal((high.double() - weights).abs(), (weights.to(BF16).double() - weights).abs())


def test_chance_rounds_to_a_neighbour_and_on_average_to_the_number() -> None:
    numbers = torch.tensor([1.0, 1.001, -0.3, 3.1e-9, -1.0e-41, 0.0, 255.9]).repeat_interleave(1 << 16)
    noise = RoundingNoise(7, len(numbers))
    rounded = torch.empty(len(numbers), dtype=BF16)
    round_into(rounded, numbers, noise.draw("1/wte.weight/0/0", numbers))
    for value, found in zip(numbers.view(7, -1)[:, 0], rounded.view(7, -1), strict=True):
        gap = 2.0 ** (int(torch.frexp(value)[1]) - 8) if abs(value) > 1e-38 else 2.0**-133
        assert ((found.double() - value.double()).abs() < gap).all()
        assert found.double().mean().item() == pytest.approx(value.item(), abs=gap / 64)


def test_the_chance_is_of_seed_and_key_alone_and_even() -> None:
    like = torch.empty(1 << 16)
    draws = [RoundingNoise(seed, 1 << 17).draw(key, like) for seed, key in ((1, "a"), (1, "a"), (1, "b"), (2, "a"))]
    assert torch.equal(draws[0], draws[1])
    for one in draws[1:]:
        assert one.min() >= 0 and one.max() < 1 << 16
        cells = torch.bincount(one >> 8, minlength=256).double()
        assert ((cells - 256) ** 2 / 256).sum() < 350  # chi-square, 255 degrees: one in ten thousand
    for one, other in ((0, 2), (0, 3), (2, 3)):
        assert abs(torch.corrcoef(torch.stack([draws[one], draws[other]]).double())[0, 1]) < 0.02


def steps(made: TrainConfig, count: int) -> tuple[GPT2, AdamW]:
    """Train on random gradients, the same for every configuration."""
    model = GPT2(made.shape)
    prepare(model, made)
    optimizer = AdamW(model, made)
    optimizer.take_weights(model.initial_weights(3))
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        for parameter in model.parameters():
            gradient = torch.randn(parameter.shape, generator=generator).to(BF16)
            parameter.grad = gradient.to(parameter.grad_dtype or parameter.dtype)
        optimizer.step(0.003)
    return model, optimizer


def test_masters_move_as_fp32_weights_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(narrow_adamw, "_PIECE_CPU", 512)
    plain, _ = steps(config(), 20)
    narrow, optimizer = steps(config(**NARROW), 20)
    for (name, expected), parameter in zip(plain.named_parameters(), narrow.parameters(), strict=True):
        master = optimizer.weight(name, parameter)
        assert torch.equal(master, expected)
        assert parameter.dtype == BF16 and (parameter - master).abs().max() <= master.abs().max() / 256


@needs_native_kernels()
@pytest.mark.parametrize("options", [{"weights": "bf16", "dtype": "auto", "moments": "bf16"}, {"moments": "bf16"},
                                     {"weights": "bf16", "dtype": "auto", "micro_batch": 1}])
def test_the_kernel_moves_as_torchs_pieces_do(options: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(narrow_adamw, "_PIECE_CPU", 500)  # no multiple of the kernel's sixteen
    made = config(weight_decay=0.3, **options)
    (plain, one), (quick, other) = steps(made, 12), steps(replace(made, compile="native"), 12)
    for (name, expected), found in zip(plain.named_parameters(), quick.parameters(), strict=True):
        torch.testing.assert_close(other.weight(name, found), one.weight(name, expected), rtol=1e-5, atol=1e-6)
    theirs = one.moments()
    for name, moment in other.moments().items():
        assert moment.dtype == theirs[name].dtype
        assert ((moment - theirs[name]).abs() <= theirs[name].abs() * 2.0**-7 + 1e-12).all()
        assert (moment != theirs[name]).double().mean() < 0.02 or moment.dtype == torch.float32  # the same chance


def test_bf16_moments_are_those_of_fp32_on_average() -> None:
    _, exact = steps(config(recipe="gpt"), 60)  # beta 0.999: to the nearest, the second moment would stop growing
    _, rounded = steps(config(recipe="gpt", moments="bf16"), 60)
    ours, theirs = rounded.moments(), exact.moments()
    for name, moment in ours.items():
        assert moment.dtype == BF16
        scale = theirs[name].square().mean().sqrt()
        assert (moment.double() - theirs[name]).square().mean().sqrt() < 0.02 * scale
        if moment.numel() > 1000:
            assert abs((moment.double() - theirs[name]).mean()) < 0.001 * scale


def test_one_micro_batch_has_bf16_gradients_and_several_add_up_in_fp32() -> None:
    one, several = config(**NARROW), config(micro_batch=1, **NARROW)
    for made, dtype in ((one, BF16), (several, torch.float32)):
        model = GPT2(made.shape)
        prepare(model, made)
        for _ in range(300):
            (model.wpe.weight[0].sum() * (1.0 if dtype == BF16 else 1.0 + 2.0**-7)).backward()
        assert model.wpe.weight.grad is not None and model.wpe.weight.grad.dtype == dtype
        if dtype == torch.float32:
            assert model.wpe.weight.grad[0, 0] == 300 * (1.0 + 2.0**-7)


def test_the_norm_of_bf16_tensors_is_no_bf16_number() -> None:
    tensors = [torch.full((1000,), 0.1).to(BF16), torch.full((7,), 3.0).to(BF16)]
    expected = sum(float(tensor.double().square().sum()) for tensor in tensors) ** 0.5
    assert float(total_norm(tensors)) == pytest.approx(expected, rel=1e-6)


def losses(run: Path) -> list[float]:
    return [record["loss_nats"] for record in records_of(run, "gpt2.step")]


def test_runs_learn_as_autocast_and_fp32_moments_do(shard_directory: Path, tmp_path: Path) -> None:
    settings = {"embd": 32, "layers": 2, "steps": 60, "batch_tokens": 512, "micro_batch": 8, "dtype": "bf16",
                "checkpoint_every": 60}
    for name, options in {"autocast": {}, "weights": {"weights": "bf16"}, "moments": {"moments": "bf16"},
                          "both": {"weights": "bf16", "moments": "bf16"}}.items():
        train(plan_of(shard_directory, tmp_path / name, **{**settings, **options}), Silent())
    expected = losses(tmp_path / "autocast")
    assert expected[0] - expected[-1] > 1.0
    for name in ("weights", "moments", "both"):
        found = losses(tmp_path / name)
        assert found == pytest.approx(expected, abs=0.05), name
        assert sum(found[-30:]) / 30 == pytest.approx(sum(expected[-30:]) / 30, abs=0.01), name


@pytest.mark.parametrize("options", [NARROW, {"moments": "bf16"}, {**NARROW, "moments": "bf16", "micro_batch": 4}],
                         ids=["weights", "moments", "both, one micro-batch"])
def test_a_run_that_was_stopped_often_ends_in_the_same_bits(
    shard_directory: Path, tmp_path: Path, options: dict[str, object]
) -> None:
    train(plan_of(shard_directory, tmp_path / "whole", **options), Silent())
    _, stops = train_through_stops(lambda: plan_of(shard_directory, tmp_path / "parts", **options), 13)
    assert stops and outcome(tmp_path / "parts") == outcome(tmp_path / "whole")
    last = tmp_path / "whole" / "checkpoints" / "step-00000012"
    weights = load_file(last / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    rounded = [bool(torch.equal(tensor, tensor.to(BF16).float())) for tensor in weights.values()]
    assert sum(rounded) < len(rounded) / 2  # they are masters
    moments = {tensor.dtype for tensor in load_file(last / "training" / "optimizer.safetensors").values()}
    assert moments == {BF16 if "moments" in options else torch.float32}


def test_other_types_than_a_runs_own_are_listed_and_taken_under_override(shard_directory: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(plan_of(shard_directory, run, **NARROW), Silent())
    (run / "manifest.json").unlink()
    with pytest.raises(UsageFault, match="weights: 'bf16' there, 'fp32' asked; moments: 'fp32' there, 'bf16' asked"):
        train(plan_of(shard_directory, run, moments="bf16", dtype="bf16"), Silent())
    changed = plan_of(shard_directory, run, moments="bf16", dtype="bf16", steps=14, how={"override": True})
    assert train(changed, Silent()).steps == 14


def test_bf16_weights_go_with_bf16_alone(shard_directory: Path) -> None:
    assert config(weights="bf16").dtype == "bf16"
    with pytest.raises(UsageFault, match="--weights bf16 is computed with in bf16; it does not go with --dtype fp16"):
        config(weights="bf16", dtype="fp16")
