"""nanoGPT's checkpoints: the same logits as its network, with and without biases, compiled or not; the rest refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_models import SHAPE, NanoGPT, nanogpt_checkpoint

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.interchange.foreign_model import ForeignModel
from gpt2cli.interchange.nanogpt_checkpoint import read_nanogpt
from gpt2cli.model.gpt2 import GPT2

IDS = torch.randint(SHAPE.n_vocab, (2, 32), generator=torch.Generator().manual_seed(3))


def saved(directory: Path, checkpoint: Any) -> Path:
    torch.save(checkpoint, directory / "ckpt.pt")
    return directory / "ckpt.pt"


def logits(found: ForeignModel) -> torch.Tensor:
    model = GPT2(found.shape).eval()
    model.load_state_dict(found.tensors)
    with torch.no_grad():
        return model.logits(model(IDS))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("prefix", ["", "_orig_mod."])
def test_the_network_computes_the_same(tmp_path: Path, bias: bool, prefix: str) -> None:
    network, checkpoint = nanogpt_checkpoint(bias=bias, prefix=prefix)
    found = read_nanogpt(saved(tmp_path, checkpoint), allow_pickle=True)
    assert found.shape == SHAPE
    ours = logits(found)
    tanh = NanoGPT(SHAPE, bias, exact_gelu=False)
    tanh.load_state_dict(network.state_dict())
    assert (ours - tanh(IDS)).abs().max() < 1e-5, "with GPT-2's GELU it is the same network"
    away = (ours - network(IDS)).abs().max()
    assert 1e-5 < away < 2e-2 and "third decimal" in found.caution, f"the exact GELU is {away} away, which is told"
    assert "iter_num" in found.left_out


def test_a_directory_stands_for_its_ckpt(tmp_path: Path) -> None:
    saved(tmp_path, nanogpt_checkpoint()[1])
    assert read_nanogpt(tmp_path, True).shape == SHAPE


def test_without_the_flag_no_pickle_is_opened(tmp_path: Path) -> None:
    path = saved(tmp_path, nanogpt_checkpoint()[1])
    with pytest.raises(UsageFault, match="is a pickle; --allow-pickle reads it"):
        read_nanogpt(path, False)


@pytest.mark.parametrize(("change", "message"), [
    ({"bias": False}, "says bias False, and yet"), ({"n_layer": 3}, r"lacks h.2.ln_1.weight"),
    ({"n_layer": 1}, "GPT-2 has not: 'h.1"), ({"block_size": 33}, r"wpe.weight has shape \[32, 16\], not \[33, 16\]"),
    ({"vocab_size": -5}, "n_vocab is -5"), ({"n_head": "2"}, "n_head is '2'"), ({"n_embd": None}, "n_embd is None"),
    ({"n_layer": 2**31 - 1}, "claims 2147483647 layers"),
])
def test_arguments_that_do_not_fit(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    checkpoint = nanogpt_checkpoint()[1]
    checkpoint["model_args"] |= change
    with pytest.raises(BadInput, match=message):
        read_nanogpt(saved(tmp_path, checkpoint), True)


def test_the_mask_of_a_network_without_flash_attention_is_passed_over(tmp_path: Path) -> None:
    found = read_nanogpt(saved(tmp_path, changed("transformer.h.1.attn.bias", torch.ones(1, 1, 32, 32))), True)
    assert not [name for name in found.tensors if name.endswith(".attn.bias")]


@pytest.mark.parametrize("content", [[], {"model": 3}, {"model": {}}, {"model": {}, "model_args": 3}, 7, "x"])
def test_another_pickle_is_told(tmp_path: Path, content: Any) -> None:
    with pytest.raises(BadInput, match="no nanoGPT checkpoint"):
        read_nanogpt(saved(tmp_path, content), True)


def changed(key: str, value: Any) -> Any:
    checkpoint = nanogpt_checkpoint()[1]
    if value is None:
        del checkpoint["model"][key]
    else:
        checkpoint["model"][key] = value
    return checkpoint


@pytest.mark.parametrize(("key", "value", "message"), [
    ("lm_head.weight", torch.ones(500, 16), "tied to its token embedding"),
    ("lm_head.weight", torch.ones(3), "tied to its token embedding"),
    ("transformer.wpe.weight", None, r"lacks wpe.weight"),
    ("transformer.h.0.rotary", torch.ones(3), "GPT-2 has not: 'h.0.rotary'"),
    ("transformer.ln_f.weight", torch.full((16,), torch.nan), "not finite"),
    ("transformer.ln_f.weight", torch.ones(16, dtype=torch.int64), "no plain tensor of floating-point"),
    ("transformer.ln_f.weight", torch.ones(16, dtype=torch.complex64), "no plain tensor"),
    ("transformer.ln_f.weight", torch.ones(16).to_sparse(), "no plain tensor"),
    ("transformer.h.0.mlp.c_fc.weight", torch.ones(4), "has 1 dimensions"),
    ("transformer.h.0.mlp.c_fc.weight", torch.ones(16, 64), r"shape \[64, 16\], not \[16, 64\]"),
    ("wte.weight", torch.ones(500, 16), "twice, with and without 'transformer.'"),
    ("\x1b[31m", torch.ones(1), r"\\x1b\[31m"), (5, torch.ones(1), "names no tensor"), ("a", "b", "names no tensor"),
])
def test_another_network_is_refused(tmp_path: Path, key: Any, value: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        read_nanogpt(saved(tmp_path, changed(key, value)), True)
    assert "\x1b" not in str(caught.value)


def test_a_tensor_larger_than_its_file(tmp_path: Path) -> None:
    """One number seen through strides of zero: a claim of 40 TB costs nothing to write."""
    checkpoint = nanogpt_checkpoint(block_size=10**9, n_embd=10**4, vocab_size=10**6, n_head=1)[1]
    one, d = torch.ones(()), 10**4
    sizes = {"wte.weight": (10**6, d), "wpe.weight": (10**9, d), "ln_f.weight": (d,), "ln_f.bias": (d,)}
    for layer in (0, 1):
        for name, size in {"ln_1": (d,), "ln_2": (d,), "attn.c_attn": (3 * d, d), "attn.c_proj": (d, d),
                           "mlp.c_fc": (4 * d, d), "mlp.c_proj": (d, 4 * d)}.items():
            sizes |= {f"h.{layer}.{name}.weight": size, f"h.{layer}.{name}.bias": size[:1]}
    checkpoint["model"] = {f"transformer.{name}": one.expand(size) for name, size in sizes.items()}
    with pytest.raises(BadInput, match="claims more numbers than it has bytes"):
        read_nanogpt(saved(tmp_path, checkpoint), True)
