"""The network against transformers' GPT2LMHeadModel, and against the published counts."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_models import lively_model
from transformers import GPT2Config, GPT2LMHeadModel

from gpt2cli.model.gpt2 import GPT2
from gpt2cli.sizes import SIZES, ModelShape

SHAPES = [ModelShape(3, 4, 32, 48, 101), ModelShape(2, 1, 20, 16, 37), ModelShape(1, 5, 40, 64, 300)]


def reference(model: GPT2) -> GPT2LMHeadModel:
    """The same weights in transformers, without dropout."""
    shape = model.shape
    config = GPT2Config(n_layer=shape.n_layer, n_head=shape.n_head, n_embd=shape.n_embd, n_positions=shape.n_ctx,
                        vocab_size=shape.n_vocab, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    theirs = GPT2LMHeadModel(config)
    missing = theirs.load_state_dict({f"transformer.{k}": v for k, v in model.state_dict().items()}, strict=False)
    assert [name for name in missing.missing_keys if name != "lm_head.weight"] == []
    assert missing.unexpected_keys == []
    return theirs.eval()


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float(((ours - theirs).norm() / theirs.norm()).detach())


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_and_every_gradient_are_those_of_transformers(shape: ModelShape) -> None:
    model = lively_model(shape)
    theirs = reference(model)
    ids = torch.randint(shape.n_vocab, (2, shape.n_ctx), generator=torch.Generator().manual_seed(1))
    logits, expected = model.logits(model(ids)), theirs(ids).logits
    assert relative(logits, expected) < 1e-5
    for output in (logits, expected):
        torch.nn.functional.cross_entropy(output[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
    gradients = {name: p.grad for name, p in theirs.transformer.named_parameters()}
    assert set(gradients) == {name for name, _ in model.named_parameters()}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        if name.endswith("c_attn.bias"):  # the keys' bias moves no probability: its gradient is rounding alone
            keep = torch.ones(3 * shape.n_embd, dtype=torch.bool)
            keep[shape.n_embd : 2 * shape.n_embd] = False
            assert relative(parameter.grad[keep], gradients[name][keep]) < 1e-5, name
        else:
            assert relative(parameter.grad, gradients[name]) < 1e-5, name


@pytest.mark.parametrize("size", SIZES)
def test_published_sizes_have_the_published_counts_and_transformers_shapes(size: str) -> None:
    shape = SIZES[size]
    with torch.device("meta"):
        model = GPT2(shape)
        theirs = GPT2LMHeadModel(GPT2Config(n_layer=shape.n_layer, n_head=shape.n_head, n_embd=shape.n_embd))
    assert sum(p.numel() for p in model.parameters()) == shape.n_params
    expected = {name: p.shape for name, p in theirs.transformer.named_parameters()}
    assert {name: p.shape for name, p in model.named_parameters()} == expected


def test_positions_beyond_the_context_are_refused() -> None:
    model = lively_model(ModelShape(1, 1, 8, 4, 11))
    with pytest.raises(ValueError, match="5 positions do not fit a context of 4"):
        model(torch.zeros(1, 5, dtype=torch.long))


def test_a_position_depends_on_nothing_after_it() -> None:
    model = lively_model(SHAPES[0])
    ids = torch.arange(20)[None] % 101
    changed = ids.clone()
    changed[0, 12:] = 3
    before, after = model(ids)[0], model(changed)[0]
    torch.testing.assert_close(before[:12], after[:12])
    assert not torch.allclose(before[12:], after[12:])


def test_initial_weights_have_the_papers_spread_and_come_from_the_seed() -> None:
    shape = ModelShape(8, 4, 128, 256, 1000)
    model, same, other = GPT2(shape), GPT2(shape), GPT2(shape)
    model.initialise(3)
    same.initialise(3)
    other.initialise(4)
    state = model.state_dict()
    assert all(torch.equal(value, same.state_dict()[name]) for name, value in state.items())
    assert not torch.equal(state["wte.weight"], other.state_dict()["wte.weight"])
    spreads = {"wte.weight": 0.02, "wpe.weight": 0.01, "h.3.attn.c_attn.weight": 0.02, "h.3.mlp.c_fc.weight": 0.02,
               "h.3.attn.c_proj.weight": 0.02 / math.sqrt(16), "h.3.mlp.c_proj.weight": 0.02 / math.sqrt(16)}
    for name, spread in spreads.items():
        assert float(state[name].std()) == pytest.approx(spread, rel=0.03), name
    assert all(bool((value == 0).all()) for name, value in state.items() if name.endswith("bias"))
    assert all(bool((value == 1).all()) for name, value in state.items() if "ln_" in name and name.endswith("weight"))


def test_dropout_acts_in_training_only() -> None:
    model = lively_model(SHAPES[0])
    model.dropout = 0.5
    ids = torch.arange(20)[None]
    torch.testing.assert_close(model(ids), model(ids))
    model.train()
    assert not torch.allclose(model(ids), model(ids))
