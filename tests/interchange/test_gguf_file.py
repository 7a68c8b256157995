"""GGUF opened by llama.cpp's own reader: metadata as its converter writes it, and a network computed from the file."""

from __future__ import annotations

import errno
import hashlib
import resource
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from foreign_models import SHAPE, own_state
from tiny_models import lively_model, small_vocabulary

from gpt2cli.errors import UsageFault
from gpt2cli.interchange.gguf_file import DTYPES, write_gguf
from gpt2cli.sizes import ModelShape
from gpt2cli.tokens.huggingface import merge_lines
from gpt2cli.tokens.vocabulary import gpt2_vocabulary

IDS = torch.randint(SHAPE.n_vocab, (20,), generator=torch.Generator().manual_seed(0))


def written(path: Path, dtype: str = "fp32", shape: ModelShape = SHAPE) -> gguf.GGUFReader:
    write_gguf(path, own_state(shape), shape, small_vocabulary(), dtype, "l2-e16")
    return gguf.GGUFReader(path)


def fields(reader: gguf.GGUFReader) -> dict[str, Any]:
    return {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}


def test_metadata_is_what_llama_cpps_converter_writes(tmp_path: Path) -> None:
    """The keys and their order as conversion/gpt2.py of llama.cpp gave them for a directory of the same kind."""
    found = fields(written(tmp_path / "m.gguf"))
    vocabulary = small_vocabulary()
    tokens = found.pop("tokenizer.ggml.tokens")
    assert tokens[:3] == ["!", '"', "#"] and tokens[256] == "Ġt" and tokens[-1] == "<|endoftext|>"
    assert found.pop("tokenizer.ggml.token_type") == [1] * 499 + [3]
    assert found.pop("tokenizer.ggml.merges") == merge_lines(vocabulary)
    assert found.pop("gpt2.attention.layer_norm_epsilon") == pytest.approx(1e-5)
    assert list(found.items()) == [
        ("general.architecture", "gpt2"), ("general.type", "model"), ("general.name", "l2-e16"),
        ("general.size_label", "15K"), ("gpt2.block_count", 2), ("gpt2.context_length", 32),
        ("gpt2.embedding_length", 16), ("gpt2.feed_forward_length", 64), ("gpt2.attention.head_count", 2),
        ("general.file_type", 0), ("general.quantization_version", 2), ("tokenizer.ggml.model", "gpt2"),
        ("tokenizer.ggml.pre", "gpt-2"), ("tokenizer.ggml.bos_token_id", 499), ("tokenizer.ggml.eos_token_id", 499),
        ("tokenizer.ggml.unknown_token_id", 499), ("tokenizer.ggml.add_bos_token", False),
        ("tokenizer.ggml.add_eos_token", False)]


def logits_of(reader: gguf.GGUFReader, ids: list[int]) -> np.ndarray:
    """GPT-2 in fp64 from a file's tensors, by llama.cpp's names and its build graph (src/models/gpt2.cpp)."""
    t = {tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float64).reshape(
        tensor.shape[::-1]) for tensor in reader.tensors}
    known = fields(reader)
    heads, eps = known["gpt2.attention.head_count"], known["gpt2.attention.layer_norm_epsilon"]

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt(centred.var(-1, keepdims=True) + eps) * t[f"{name}.weight"] + t[f"{name}.bias"]

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ t[f"{name}.weight"].T + t[f"{name}.bias"]

    x = t["token_embd.weight"][ids] + t["position_embd.weight"][: len(ids)]
    for layer in range(known["gpt2.block_count"]):
        block = f"blk.{layer}"
        q, k, v = (part.reshape(len(ids), heads, -1).swapaxes(0, 1)
                   for part in np.split(linear(norm(x, f"{block}.attn_norm"), f"{block}.attn_qkv"), 3, -1))
        scores = q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1])
        scores[:, ~np.tril(np.ones((len(ids), len(ids)), bool))] = -np.inf
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (weights / weights.sum(-1, keepdims=True)) @ v
        x = x + linear(mixed.swapaxes(0, 1).reshape(len(ids), -1), f"{block}.attn_output")
        inner = linear(norm(x, f"{block}.ffn_norm"), f"{block}.ffn_up")
        inner = 0.5 * inner * (1 + np.tanh(np.sqrt(2 / np.pi) * (inner + 0.044715 * inner**3)))
        x = x + linear(inner, f"{block}.ffn_down")
    return norm(x, "output_norm") @ t["token_embd.weight"].T


@pytest.mark.parametrize(("dtype", "tolerance"), [("fp32", 1e-4), ("fp16", 2e-2), ("bf16", 2e-1), ("int8", 4e-1)])
def test_the_network_in_the_file_is_ours(tmp_path: Path, dtype: str, tolerance: float) -> None:
    shape = ModelShape(2, 2, 32, 32, 500)
    reader = written(tmp_path / "m.gguf", dtype, shape)
    with torch.no_grad():
        model = lively_model(shape)
        ours = model.logits(model(IDS[None]))[0].numpy()
    away = np.abs(logits_of(reader, IDS.tolist()) - ours).max()
    assert away < tolerance and (dtype == "fp32" or away > 1e-4)


def test_types_of_tensors(tmp_path: Path) -> None:
    """Norms, biases and positions stay fp32 in every file; a width that fills no block of 32 stays fp16."""
    for dtype, (name, number) in DTYPES.items():
        for shape in (SHAPE, ModelShape(2, 2, 32, 32, 500)):
            reader = written(tmp_path / "m.gguf", dtype, shape)
            kinds = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
            plain = {kinds[key] for key in kinds if "norm" in key or key.endswith("bias") or key.startswith("position")}
            assert plain == {"F32"}
            narrow = name == "Q8_0" and shape.n_embd == 16
            assert kinds["token_embd.weight"] == kinds["blk.0.attn_qkv.weight"] == ("F16" if narrow else name)
            assert kinds["blk.1.ffn_down.weight"] == name, "its rows have 64 numbers or more"
            assert fields(reader)["general.file_type"] == number


FP16, BF16 = 65504.0, 3.3895e38


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("dtype", "n_embd", "name", "most"), [
    ("fp16", 32, "wte.weight", FP16), ("bf16", 32, "wte.weight", BF16), ("int8", 32, "wte.weight", 127 * FP16),
    ("int8", 16, "h.1.attn.c_proj.weight", FP16), ("int8", 16, "h.1.mlp.c_proj.weight", 127 * FP16),
    ("fp16", 32, "h.0.ln_1.bias", 3.4e38),
])
def test_a_weight_too_large_for_the_type_is_refused_and_the_largest_is_not_infinite(
    tmp_path: Path, dtype: str, n_embd: int, name: str, most: float
) -> None:
    shape = ModelShape(2, 2, n_embd, 32, 500)
    state = own_state(shape)
    state[name].view(-1)[3] = -most
    write_gguf(tmp_path / "m.gguf", state, shape, small_vocabulary(), dtype, "m")
    for tensor in gguf.GGUFReader(tmp_path / "m.gguf").tensors:
        numbers = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        assert np.isfinite(numbers).all()
    if most < 3.4e38:
        state[name].view(-1)[3] = -most * 1.002
        with pytest.raises(UsageFault, match=rf"^{name} holds \S+, too large for {dtype}; choose another --dtype$"):
            write_gguf(tmp_path / "n.gguf", state, shape, small_vocabulary(), dtype, "m")
        assert not (tmp_path / "n.gguf").exists()


def test_ids_past_the_vocabulary_have_names(tmp_path: Path) -> None:
    shape = ModelShape(1, 1, 8, 8, 503)
    write_gguf(tmp_path / "m.gguf", own_state(shape), shape, small_vocabulary(), "fp32", "m")
    found = fields(gguf.GGUFReader(tmp_path / "m.gguf"))
    assert found["tokenizer.ggml.tokens"][499:] == ["<|endoftext|>", "[PAD500]", "[PAD501]", "[PAD502]"]
    assert found["tokenizer.ggml.token_type"][498:] == [1, 3, 5, 5, 5]


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dtype", "sha256"), [
    (32, "fp32", "b6dd244417e5fe8a799cc37eebe20e5c42f710cd926ab4412d090f2c7889d00c"),
    (32, "fp16", "6ee64b757e1badd8f51302136b3bd5dbbcde420c0e364b25c48a21df4d3b54da"),
    (32, "bf16", "3ff2a9f667d5b007673086cc4c9e3ad9fd5ada59fa9d5134f72b5f4eb8a72200"),
    (32, "int8", "a8f1df524da14d3f361cc098bbccce68622e61f025d98edb0d09338083d97dd5"),
    (2, "int8", "4105c07a5d3ee897b57696a15ced650be6e941777d8ff3763bada10bfb391cfb"),
])
def test_bytes_are_those_of_llama_cpps_converter(tmp_path: Path, width: int, dtype: str, sha256: str) -> None:
    """sha256 of what convert_hf_to_gguf.py of llama.cpp, 2026, made of this very model by --outtype f32 and so on.

    Its general.name was "G", after the directory.
    """
    shape = ModelShape(1, 1, width, 4, 50_257)
    state = {name: (torch.arange(tensor.numel()) % 251 / 64 - 2).view(tensor.shape).float()
             for name, tensor in own_state(shape).items()}
    write_gguf(tmp_path / "m.gguf", state, shape, gpt2_vocabulary(), dtype, "G")
    assert hashlib.sha256((tmp_path / "m.gguf").read_bytes()).hexdigest() == sha256


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_disk_that_takes_no_more_in_the_middle_of_a_tensor_says_why(tmp_path: Path, dtype: str) -> None:
    written(tmp_path / "whole.gguf", dtype)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "whole.gguf").stat().st_size - 3000, limits[1]))
    try:
        with pytest.raises(OSError) as error:
            written(tmp_path / "cut.gguf", dtype)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert error.value.errno == errno.EFBIG
