"""OpenAI's directory: names and shapes as its model.py asks for them, fine-tuned ones, and what is wrong told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from foreign_models import SHAPE, own_state
from tiny_models import small_vocabulary

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.interchange.openai_checkpoint import FILES, read_openai, write_openai
from gpt2cli.interchange.tensor_bundle import BundleReader, data_path, write_bundle
from gpt2cli.tokens.vocabulary import Vocabulary


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "117M"
    directory.mkdir()
    write_openai(directory, own_state(), SHAPE, small_vocabulary())
    return directory


def rewrite(directory: Path, change: dict[str, np.ndarray | None], prefix: str = "model.ckpt") -> None:
    """Save a checkpoint's tensors again with some changed, added, or (None) left out."""
    reader = BundleReader(directory / "model.ckpt")
    tensors = {name: reader.read(name) for name in reader.entries} | change
    write_bundle(directory / prefix, {name: array for name, array in tensors.items() if array is not None})


def test_names_and_shapes_are_those_of_openais_model(model: Path) -> None:
    """src/model.py: conv1d's w is [1, in, out], norms have g and b, embeddings stand alone."""
    entries = {name: entry.shape for name, entry in BundleReader(model / "model.ckpt").entries.items()}
    block = {"ln_1/g": (16,), "ln_1/b": (16,), "attn/c_attn/w": (1, 16, 48), "attn/c_attn/b": (48,),
             "attn/c_proj/w": (1, 16, 16), "attn/c_proj/b": (16,), "ln_2/g": (16,), "ln_2/b": (16,),
             "mlp/c_fc/w": (1, 16, 64), "mlp/c_fc/b": (64,), "mlp/c_proj/w": (1, 64, 16), "mlp/c_proj/b": (16,)}
    wanted = {"model/wte": (500, 16), "model/wpe": (32, 16), "model/ln_f/g": (16,), "model/ln_f/b": (16,)}
    wanted |= {f"model/h{layer}/{name}": shape for layer in (0, 1) for name, shape in block.items()}
    assert entries == wanted
    assert json.loads((model / "hparams.json").read_text()) == {
        "n_vocab": 500, "n_ctx": 32, "n_embd": 16, "n_head": 2, "n_layer": 2}
    assert sorted(path.name for path in model.iterdir()) == sorted(FILES)


def test_there_and_back(model: Path) -> None:
    found = read_openai(model)
    assert found.shape == SHAPE and found.vocabulary == small_vocabulary() and not found.left_out
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in own_state().items())


def test_an_optimizers_state_is_left_out_and_counted(model: Path) -> None:
    rewrite(model, {"model/wte/Adam": np.ones((500, 16), "f4"), "beta1_power": np.ones((), "f4")})
    found = read_openai(model)
    assert "2 tensors that are no weights, such as" in found.left_out
    assert torch.equal(found.tensors["wte.weight"], own_state()["wte.weight"])


def test_the_file_checkpoint_says_which_of_several(model: Path) -> None:
    rewrite(model, {"model/ln_f/b": np.full(16, 7, "f4")}, "model-100")
    assert read_openai(model).tensors["ln_f.bias"][0] != 7
    (model / "checkpoint").write_text('model_checkpoint_path: "/somewhere/else/model-100"\n')
    assert read_openai(model).tensors["ln_f.bias"][0] == 7, "by its name, whatever machine wrote it"
    (model / "checkpoint").unlink()
    with pytest.raises(UsageFault, match="holds 2 checkpoints; name one by its prefix"):
        read_openai(model)
    for name in ("model-100", "model-100.index"):
        assert read_openai(model / name).tensors["ln_f.bias"][0] == 7
    with pytest.raises(UsageFault, match="no TensorFlow checkpoint at"):
        read_openai(model / "model-101")


def test_an_escaping_name_in_checkpoint_goes_nowhere(model: Path) -> None:
    (model / "checkpoint").write_text('model_checkpoint_path: "../../etc/passwd"\n')
    assert read_openai(model).shape == SHAPE


@pytest.mark.parametrize(("change", "message"), [
    ({"model/h1/mlp/c_fc/w": None}, r"lacks h.1.mlp.c_fc.weight"),
    ({"model/h2/ln_1/g": np.ones(16, "f4")}, "tensor that GPT-2 has not: 'h.2.ln_1.weight'"),
    ({"model/wpe": np.zeros((31, 16), "f4")}, r"wpe.weight has shape \[31, 16\], not \[32, 16\]"),
    ({"model/h0/attn/c_attn/w": np.zeros((2, 16, 48), "f4")}, r"c_attn.weight has shape \[2, 16, 48\]"),
    ({"model/h0/ln_1/b": np.full(16, np.nan, "f4")}, "h.0.ln_1.bias holds values that are not finite"),
    ({"model/ln_f/g": np.full(16, np.inf, "f4")}, "ln_f.weight holds values that are not finite"),
])
def test_another_network_is_refused(model: Path, change: dict[str, np.ndarray | None], message: str) -> None:
    rewrite(model, change)
    with pytest.raises(BadInput, match=message):
        read_openai(model)


@pytest.mark.parametrize(("text", "message"), [
    ("{}", "n_vocab is None"), ('{"n_vocab": 500, "n_ctx": 32, "n_embd": 16, "n_head": 2, "n_layer": 1e9}', "n_layer"),
    ('{"n_vocab": 500, "n_ctx": 32, "n_embd": 16, "n_head": 2, "n_layer": 999999999}', "claims 999999999 layers"),
    ('{"n_vocab": 500, "n_ctx": 32, "n_embd": 16, "n_head": 3, "n_layer": 2}', "3 heads"),
    ('{"n_vocab": 2147483647, "n_ctx": 32, "n_embd": 16, "n_head": 2, "n_layer": 2}', "wte.weight has shape"),
    ("[" * 100_000, "hparams.json"), ("\x1b[31m", "hparams.json"), ('{"n_vocab": true}', "n_vocab is True"),
])
def test_hostile_hparams(model: Path, text: str, message: str) -> None:
    (model / "hparams.json").write_text(text)
    with pytest.raises(BadInput, match=message) as caught:
        read_openai(model)
    assert "\x1b" not in str(caught.value)


def test_what_is_missing_is_named(model: Path) -> None:
    (model / "hparams.json").unlink()
    with pytest.raises(UsageFault, match=r"has no hparams.json"):
        read_openai(model)
    write_openai(model, own_state(), SHAPE, small_vocabulary())
    data_path(model / "model.ckpt").unlink()
    with pytest.raises(BadInput, match=r"model\.ckpt\.data-00000-of-00001 is missing"):
        read_openai(model)


def test_a_vocabulary_that_the_files_cannot_hold(tmp_path: Path) -> None:
    """vocab.bpe puts end-of-text last."""
    ranks = {bytes([byte]): byte + 1 for byte in range(256)}
    with pytest.raises(UsageFault, match=r"puts <\|endoftext\|> last"):
        write_openai(tmp_path, own_state(), SHAPE, Vocabulary(ranks, 0))
    assert list(tmp_path.iterdir()) == []
