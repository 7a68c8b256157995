"""The compiled training pass beside torch: kernels against float64, the whole gradient against fp32 and autocast."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from compiled_passes import needs_native_kernels

from gpt2cli.model import native_kernels as module
from gpt2cli.model.gpt2 import GPT2
from gpt2cli.model.native_gradient import NativeGradient, computes
from gpt2cli.model.native_kernels import NoKernelsError, native_kernels
from gpt2cli.model.nll import sum_nll
from gpt2cli.sizes import ModelShape

BF16 = torch.bfloat16
SHAPE = ModelShape(3, 2, 64, 128, 1000)


native = needs_native_kernels()


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def attended(B: int, T: int, H: int, D: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(T)
    qkv, slope = (torch.randn(B, T, each * H * D, generator=generator).to(BF16) for each in (3, 1))
    out, log_sums, gradient = torch.empty(B, T, H * D, dtype=BF16), torch.empty(B, H, T), torch.empty_like(qkv)
    native_kernels()("attention_forward", qkv, out, log_sums, B, T, H, D)
    native_kernels()("attention_backward", qkv, out, slope, log_sums, gradient, B, T, H, D)
    return qkv, slope, out, gradient


@native
@pytest.mark.parametrize("size", [(1, 64, 2, 64), (2, 100, 3, 16), (1, 1, 1, 32), (1, 129, 2, 80), (1, 257, 1, 128)])
def test_attention_and_its_gradient_are_bf16_away_from_float64(size: tuple[int, int, int, int]) -> None:
    B, T, H, D = size
    qkv, slope, out, gradient = attended(*size)
    wide = qkv.double().requires_grad_()
    q, k, v = (part.view(B, T, H, D).transpose(1, 2) for part in wide.chunk(3, 2))
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(B, T, H * D)
    expected.backward(slope.double())
    assert wide.grad is not None
    assert relative(out, expected.detach()) < 0.003 and relative(gradient, wide.grad) < 0.004


@native
def test_the_number_of_threads_changes_no_bit_of_a_kernel() -> None:
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(attended(2, 70, 3, 32)[2:])
    assert all(torch.equal(one, other) for each in found[1:] for one, other in zip(found[0], each, strict=True))


@native
@pytest.mark.parametrize(("kernel", "tensors"), [("attention_forward", 3), ("attention_backward", 5)])
def test_a_kernel_that_gets_no_memory_says_so(kernel: str, tensors: int) -> None:
    with pytest.raises(MemoryError, match=kernel):
        native_kernels()(kernel, *[torch.empty(1)] * tensors, 1, 1 << 30, 1, 1 << 30)


@native
def test_gelu_and_its_slope_are_torch_s_to_bf16_and_far_out_are_finite() -> None:
    x = torch.cat([torch.randn(4001) * 4, torch.tensor([0.0, -0.0, 90.0, -90.0, 3e38, -3e38])]).to(BF16)
    y, slope, again = torch.empty_like(x), torch.ones_like(x), torch.empty_like(x)
    native_kernels()("gelu_forward", x, y, len(x))
    native_kernels()("gelu_backward", x, slope, again, len(x))
    wide = x[:-2].double().requires_grad_()
    expected = F.gelu(wide, approximate="tanh")
    expected.sum().backward()
    torch.testing.assert_close(y[:-2].double(), expected.detach(), rtol=0.004, atol=1e-6)
    torch.testing.assert_close(slope[:-2].double(), wide.grad, rtol=0.004, atol=1e-5)
    assert torch.equal(y, again) and y.isfinite().all()


def network(shape: ModelShape = SHAPE, recompute: bool = False) -> GPT2:
    model = GPT2(shape).train()
    model.initialise(1)
    model.recompute = recompute
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model


def rows(B: int, T: int, shape: ModelShape = SHAPE) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(B * T)
    ids = torch.randint(shape.n_vocab, (B, T + 1), generator=generator)
    return ids[:, :-1].contiguous(), ids[:, 1:].contiguous()


def by_torch(
    model: GPT2, ids: torch.Tensor, targets: torch.Tensor, dtype: torch.dtype
) -> tuple[float, list[torch.Tensor]]:
    model.zero_grad(set_to_none=True)
    with torch.autocast("cpu", BF16, enabled=dtype == BF16):
        hidden = model(ids)
    nll = sum_nll(hidden.flatten(0, 1), model.wte.weight, targets.flatten(), dtype)
    (nll / ids.numel()).backward()
    return float(nll.detach()), [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


def by_kernels(model: GPT2, *batches: tuple[torch.Tensor, torch.Tensor]) -> tuple[float, list[torch.Tensor]]:
    model.zero_grad(set_to_none=True)
    run = NativeGradient(model, native_kernels())
    count = sum(ids.numel() for ids, _ in batches)
    nll = sum(float(run.add(ids, targets, 1 / count)) for ids, targets in batches)
    return nll, [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


@native
@pytest.mark.parametrize(("shape", "B", "T"), [
    (SHAPE, 3, 70), (ModelShape(2, 3, 48, 64, 300), 2, 50), (ModelShape(1, 1, 64, 640, 9000), 2, 600),
])
def test_the_gradient_is_as_near_to_fp32_as_autocast_s(shape: ModelShape, B: int, T: int) -> None:
    model, (ids, targets) = network(shape), rows(B, T, shape)
    nll, exact = by_torch(model, ids, targets, torch.float32)
    _, autocast = by_torch(model, ids, targets, BF16)
    found, gradients = by_kernels(model, (ids, targets))
    assert found == pytest.approx(nll, rel=1e-4)
    assert len(gradients) == len(exact)
    for mine, theirs, right in zip(gradients, autocast, exact, strict=True):
        assert mine.dtype == torch.float32 and relative(mine, right) < 1.5 * relative(theirs, right) + 0.002


def in_bf16(model: GPT2, gradients: torch.dtype) -> GPT2:
    """Give a model bf16 weights, and gradients of a type."""
    model.to(BF16)
    for parameter in model.parameters():
        parameter.grad_dtype = gradients
    return model


def plain_in_bf16(model: GPT2, ids: torch.Tensor, targets: torch.Tensor) -> tuple[float, list[torch.Tensor]]:
    model.zero_grad(set_to_none=True)
    nll = sum_nll(model(ids).flatten(0, 1), model.wte.weight, targets.flatten(), BF16)
    (nll / ids.numel()).backward()
    return float(nll.detach()), [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


@native
@pytest.mark.parametrize("gradients", [BF16, torch.float32])
@pytest.mark.parametrize(("shape", "B", "T"), [
    (SHAPE, 3, 70), (ModelShape(2, 3, 48, 64, 300), 2, 50), (ModelShape(1, 1, 64, 640, 9000), 2, 600),
])
def test_of_bf16_weights_the_gradient_is_nearer_to_fp32_than_the_plain_one(
    shape: ModelShape, B: int, T: int, gradients: torch.dtype
) -> None:
    model, (ids, targets) = in_bf16(network(shape), gradients), rows(B, T, shape)
    ids[:, ::3] = 7  # a token that is often met
    exact_nll, exact = by_torch(copy.deepcopy(model).float(), ids, targets, torch.float32)
    plain_nll, plain = plain_in_bf16(model, ids, targets)
    found, mine = by_kernels(model, (ids, targets))
    assert found == pytest.approx(exact_nll, rel=1e-4) and found == pytest.approx(plain_nll, rel=1e-3)
    assert [each.dtype for each in mine] == [gradients] * len(exact)
    for ours, theirs, right in zip(mine, plain, exact, strict=True):
        assert relative(ours, right) < 1.1 * relative(theirs, right) + 0.001
    lean = in_bf16(network(shape, recompute=True), gradients)
    again, recomputed = by_kernels(lean, (ids, targets))
    assert again == found and all(map(torch.equal, mine, recomputed))


@native
def test_of_bf16_weights_gradients_add_up_in_either_type() -> None:
    ids, targets = rows(4, 40)
    halves = [(ids[rows].contiguous(), targets[rows].contiguous()) for rows in (slice(0, 2), slice(2, 4))]
    for gradients in (torch.float32, BF16):
        _, whole = by_kernels(in_bf16(network(), gradients), (ids, targets))
        _, summed = by_kernels(in_bf16(network(), gradients), *halves)
        assert all(relative(one, other) < 0.01 for one, other in zip(summed, whole, strict=True))


@native
def test_micro_batches_of_any_size_add_up() -> None:
    model, (ids, targets) = network(), rows(5, 40)
    whole, gradients = by_kernels(model, (ids, targets))
    parts = [(ids[rows].contiguous(), targets[rows].contiguous()) for rows in (slice(0, 2), slice(2, 4), slice(4, 5))]
    summed, added = by_kernels(model, *parts)
    assert summed == pytest.approx(whole, rel=1e-5)
    assert all(relative(one, other) < 0.01 for one, other in zip(added, gradients, strict=True))


@native
def test_recomputing_blocks_and_running_again_change_no_bit() -> None:
    batch = rows(2, 33)
    first, again = by_kernels(network(), batch), by_kernels(network(), batch)
    lean = by_kernels(network(recompute=True), batch)
    for other in (again, lean):
        assert other[0] == first[0] and all(map(torch.equal, other[1], first[1]))


@native
def test_weights_that_changed_in_any_way_are_read_again() -> None:
    model, batch = network(), rows(1, 20)
    run = NativeGradient(model, native_kernels())
    before = float(run.add(*batch, 1.0))
    with torch.no_grad():
        model.wte.weight.mul_(3)
    changed = float(run.add(*batch, 1.0))
    model.wte.weight.data.div_(3)  # not counted by torch
    run.forget_weights()
    assert changed != before and float(run.add(*batch, 1.0)) == pytest.approx(before, rel=1e-6)
    narrow = in_bf16(network(), BF16)
    run = NativeGradient(narrow, native_kernels())
    before = float(run.add(*batch, 1.0))
    for name in ("h.1.mlp.c_fc.weight", "h.1.ln_2.weight", "wpe.weight"):  # as they are, copied, as they are
        with torch.no_grad():
            narrow.get_parameter(name).mul_(2)
        before, earlier = float(run.add(*batch, 1.0)), before
        assert before != earlier, name


@native
def test_a_weight_that_is_no_number_makes_a_loss_that_is_none() -> None:
    for name in ("wte.weight", "h.1.mlp.c_fc.weight", "h.2.attn.c_attn.bias"):
        model = network()
        with torch.no_grad():
            model.get_parameter(name).view(-1)[5] = float("nan")
        ids, targets = rows(1, 20)
        ids[0, 3] = 0
        assert not torch.tensor(by_kernels(model, (ids, targets))[0]).isfinite(), name


def test_shapes_that_the_kernels_are_not_for() -> None:
    assert computes(SHAPE) and computes(ModelShape(1, 25, 1600)) and computes(ModelShape(2, 1, 16))
    assert not computes(ModelShape(1, 2, 16)) and not computes(ModelShape(1, 1, 24))


@pytest.mark.parametrize(("compiler", "said"), [("/no/such/compiler", "does not run"), ("false", "fails")])
def test_a_compiler_that_does_not_work_is_said(
    monkeypatch: pytest.MonkeyPatch, compiler: str, said: str
) -> None:
    monkeypatch.setattr(module, "runs_here", lambda: True)
    monkeypatch.setenv("CXX", compiler)
    with pytest.raises(NoKernelsError, match=said):
        native_kernels.__wrapped__()


def test_no_compiler_and_no_processor_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "runs_here", lambda: True)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NoKernelsError, match=r"no C\+\+ compiler"):
        native_kernels.__wrapped__()
    monkeypatch.setattr(module, "runs_here", lambda: False)
    with pytest.raises(NoKernelsError, match="processor"):
        native_kernels.__wrapped__()


def test_the_model_can_be_copied_and_has_the_same_names() -> None:
    model = network()
    names = list(model.state_dict())
    model.native = None
    assert list(copy.deepcopy(model).state_dict()) == names


@native
def test_a_library_that_others_could_have_written_is_not_loaded(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    sources = [("one.cpp", b'extern "C" int one() { return 1; }\n')]
    library = module.compiled_library("one", sources)
    made = library.read_bytes()
    library.write_bytes(b"another's")
    assert module.compiled_library("one", sources).read_bytes() == b"another's", "ours, and kept"
    library.chmod(0o777)
    assert module.compiled_library("one", sources).read_bytes() == made
