"""The pass of small networks in one compiled call: the numbers of autograd and of transformers, whatever the shape."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from compiled_passes import needs_small_network
from torch import Tensor

from gpt2cli.model import native_kernels, small_network
from gpt2cli.model.gpt2 import GPT2
from gpt2cli.model.native_kernels import NoKernelsError
from gpt2cli.model.small_network import SmallNetwork, computes, small_network_library
from gpt2cli.sizes import ModelShape

SHAPES = [
    (ModelShape(2, 2, 16, 32, 512), 16),
    (ModelShape(1, 1, 16, 16, 50), 3),
    (ModelShape(1, 2, 2, 16, 50), 3),
    (ModelShape(2, 3, 24, 32, 300), 5),
    (ModelShape(3, 5, 45, 48, 511), 7),
    (ModelShape(1, 9, 90, 64, 17), 2),
    (ModelShape(2, 1, 64, 256, 100), 1),
    (ModelShape(1, 4, 256, 128, 257), 2),
]  # layers, heads, width, context, vocabulary; sequences


pytestmark = needs_small_network()


def _network(shape: ModelShape, seed: int = 1) -> GPT2:
    model = GPT2(shape)
    model.initialise(seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():  # biases and norms that matter too
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model


def _rows(shape: ModelShape, B: int) -> tuple[Tensor, Tensor]:
    ids = torch.randint(0, shape.n_vocab, (B, shape.n_ctx + 1), generator=torch.Generator().manual_seed(B))
    return ids[:, :-1], ids[:, 1:]


def _exact(model: GPT2, inputs: Tensor, targets: Tensor) -> tuple[float, list[Tensor]]:
    """Loss and gradients in double precision, by autograd."""
    double = GPT2(model.shape).double()
    double.load_state_dict(model.state_dict())
    logits = double(inputs) @ double.wte.weight.T
    nll = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
    gradients = torch.autograd.grad(nll, list(double.parameters()))
    return nll.item(), list(gradients)


def _off_by(gradients: list[Tensor], exact: list[Tensor], scale: float = 1.0) -> float:
    return max(float((ours.double() - scale * theirs).norm() / (scale * theirs).norm())
               for ours, theirs in zip(gradients, exact, strict=True))


def _gradients(model: GPT2) -> list[Tensor]:
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("shape", "B"), SHAPES)
def test_loss_and_gradient_are_those_of_autograd(
    shape: ModelShape, B: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small_network, "_FLOPS_OF_A_THREAD", 1)
    model, (inputs, targets) = _network(shape), _rows(shape, B)
    nll, exact = _exact(model, inputs, targets)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = float(SmallNetwork(model, small_network_library()).add(inputs, targets, 0.25))
    finally:
        torch.set_num_threads(before)
    assert found == pytest.approx(nll, rel=1e-6)
    assert _off_by(_gradients(model), exact, 0.25) < 5e-6


def test_a_network_one_wide() -> None:
    """Its norms make nothing of their inputs, so most gradients are zero and errors are measured by the largest."""
    shape = ModelShape(2, 1, 1, 16, 50)
    model, (inputs, targets) = _network(shape), _rows(shape, 3)
    nll, exact = _exact(model, inputs, targets)
    assert float(SmallNetwork(model, small_network_library()).add(inputs, targets, 1.0)) == pytest.approx(nll, rel=1e-6)
    largest = max(float(gradient.abs().max()) for gradient in exact)
    assert all(float((ours.double() - theirs).abs().max()) < 1e-4 * largest
               for ours, theirs in zip(_gradients(model), exact, strict=True))


def test_it_equals_transformers() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    shape = ModelShape(2, 4, 32, 64, 200)
    model, (inputs, targets) = _network(shape), _rows(shape, 4)
    theirs = GPT2LMHeadModel(GPT2Config(vocab_size=200, n_positions=64, n_embd=32, n_layer=2, n_head=4, resid_pdrop=0,
                                        embd_pdrop=0, attn_pdrop=0))
    theirs.load_state_dict({f"transformer.{name}": tensor for name, tensor in model.state_dict().items()}, strict=False)
    nll = F.cross_entropy(theirs(inputs).logits.flatten(0, 1), targets.flatten(), reduction="sum")
    nll.backward()
    found = SmallNetwork(model, small_network_library()).add(inputs, targets, 1.0)
    assert float(found) == pytest.approx(nll.item(), rel=1e-5)
    by_name = dict(theirs.transformer.named_parameters())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, by_name[name].grad, rtol=1e-5, atol=2e-4, msg=name)


def test_micro_batches_add_up_to_the_batch() -> None:
    shape = ModelShape(2, 2, 32, 32, 100)
    inputs, targets = _rows(shape, 7)
    model = _network(shape)
    network = SmallNetwork(model, small_network_library())
    whole = float(network.add(inputs, targets, 0.5))
    expected = [gradient.clone() for gradient in _gradients(model)]
    model.zero_grad(set_to_none=True)
    parts = [float(network.add(inputs[at : at + 3], targets[at : at + 3], 0.5)) for at in (0, 3, 6)]
    assert math.fsum(parts) == pytest.approx(whole, rel=1e-6)
    assert _off_by(_gradients(model), [gradient.double() for gradient in expected]) < 5e-6


def test_gradients_that_nobody_has_are_used_again() -> None:
    shape = ModelShape(2, 2, 24, 32, 100)
    inputs, targets = _rows(shape, 5)
    model = _network(shape)
    network = SmallNetwork(model, small_network_library(), reuse=True)
    network.add(inputs, targets, 1.0)
    first = [(gradient.data_ptr(), gradient.clone()) for gradient in _gradients(model)]
    model.zero_grad(set_to_none=True)
    network.add(inputs, targets, 1.0)
    for gradient, (place, copy) in zip(_gradients(model), first, strict=True):
        assert gradient.data_ptr() == place
        assert torch.equal(gradient, copy)


def test_every_call_gives_the_same_bits_and_gradients_of_its_own() -> None:
    shape = ModelShape(2, 2, 24, 32, 100)
    inputs, targets = _rows(shape, 5)
    model = _network(shape)
    network = SmallNetwork(model, small_network_library())
    first_nll = network.add(inputs, targets, 1.0)
    first = _gradients(model)
    kept = [gradient.clone() for gradient in first]
    model.zero_grad(set_to_none=True)
    assert torch.equal(network.add(inputs, targets, 1.0), first_nll)
    for gradient, earlier, copy in zip(_gradients(model), first, kept, strict=True):
        assert torch.equal(gradient, copy)
        assert torch.equal(earlier, copy)  # a sum over micro-batches goes on with it
        assert gradient.data_ptr() != earlier.data_ptr()


def test_it_reads_the_weights_anew() -> None:
    shape = ModelShape(1, 1, 16, 16, 50)
    inputs, targets = _rows(shape, 2)
    model = _network(shape)
    network = SmallNetwork(model, small_network_library())
    network.add(inputs, targets, 1.0)
    with torch.no_grad():
        model.wte.weight.mul_(1.5)
    assert float(network.add(inputs, targets, 1.0)) == pytest.approx(_exact(model, inputs, targets)[0], rel=1e-6)


@pytest.mark.parametrize("bad", [-1, 50, 1 << 40])
def test_an_id_outside_the_vocabulary_is_refused(bad: int) -> None:
    shape = ModelShape(1, 1, 16, 16, 50)
    inputs, targets = _rows(shape, 2)
    network = SmallNetwork(_network(shape), small_network_library())
    for which in (inputs, targets):
        spoiled = which.clone()
        spoiled[1, 3] = bad
        both = (spoiled, targets) if which is inputs else (inputs, spoiled)
        with pytest.raises(IndexError, match="outside the vocabulary of 50"):
            network.add(*both, 1.0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["wte.weight", "h.0.attn.c_attn.weight", "h.0.mlp.c_fc.bias", "ln_f.weight"])
def test_what_is_not_finite_is_seen(name: str, value: float) -> None:
    shape = ModelShape(1, 2, 20, 16, 50)
    model, (inputs, targets) = _network(shape), _rows(shape, 2)
    with torch.no_grad():
        dict(model.named_parameters())[name].view(-1)[:7].fill_(value)
    assert not math.isfinite(float(SmallNetwork(model, small_network_library()).add(inputs, targets, 1.0)))


def test_which_networks_it_is_for() -> None:
    assert all(computes(shape) for shape, _ in SHAPES)
    for other in (ModelShape(2, 2, 512, 32, 512), ModelShape(2, 2, 16, 512, 512), ModelShape(2, 2, 16, 33, 512),
                  ModelShape(2, 2, 16, 32, 50257), ModelShape(100, 2, 16, 32, 512)):
        assert not computes(other)


def test_without_a_compiler_it_cannot_be_had(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    small_network_library.cache_clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", "false")
    try:
        with pytest.raises(NoKernelsError, match="false"):
            small_network_library()
        monkeypatch.setattr(native_kernels, "_COMPILERS", ("no-such-compiler",))
        monkeypatch.delenv("CXX")
        with pytest.raises(NoKernelsError, match="no C\\+\\+ compiler"):
            small_network_library()
    finally:
        monkeypatch.undo()
        small_network_library.cache_clear()
        small_network_library()
