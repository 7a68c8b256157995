"""GGUF for llama.cpp and what builds on it, with the metadata and tensor types that its own converter writes.

Source: conversion/gpt2.py and conversion/base.py of llama.cpp. Matrices are turned to [out, in]; norms, biases and
positions stay fp32; the head is the token embedding, which llama.cpp takes when there is no `output.weight`.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from gpt2cli.errors import Gpt2Error
from gpt2cli.interchange.padded_tokens import token_names
from gpt2cli.model.number_range import check_range
from gpt2cli.sizes import ModelShape
from gpt2cli.tokens.huggingface import merge_lines
from gpt2cli.tokens.vocabulary import Vocabulary

DTYPES = {"fp32": ("F32", 0), "fp16": ("F16", 1), "bf16": ("BF16", 32), "int8": ("Q8_0", 7)}
"""Our names -> GGML's type of the matrices, and llama.cpp's number of such a file."""
_NORMAL, _CONTROL, _UNUSED = 1, 3, 5
_BLOCK = 32
_RANGES = {"F16": (torch.float16, 1.0), "BF16": (torch.bfloat16, 1.0), "Q8_0": (torch.float16, 127.0)}
"""GGML's type -> what it keeps a value as, over what: a block of Q8_0 has its largest over 127 in fp16."""
_PLACES = {"ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "ln_2": "ffn_norm",
           "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"}
_OUTER = {"wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm"}


def write_gguf(path: Path, tensors: dict[str, Tensor], shape: ModelShape, vocabulary: Vocabulary, dtype: str,
               name: str) -> None:
    """Write one file. `tensors` are fp32 by our names; `name` is general.name, which tools show.

    Raises Gpt2Error when the gguf package is not installed, BadInput when the vocabulary is no BPE, UsageFault when a
    weight is too large for `dtype`, OSError when the disk does not take it.
    """
    gguf = _library()
    kinds = {key: _kind(gguf, key, tensor, dtype) for key, tensor in sorted(tensors.items())}
    for key, kind in kinds.items():
        if kind.name in _RANGES:
            check_range(key, tensors[key], *_RANGES[kind.name], told=dtype)
    with _quiet():
        writer = gguf.GGUFWriter(path, "gpt2")
        try:
            writer.add_type("model")
            writer.add_name(name)
            writer.add_size_label(gguf.size_label(shape.n_params, 0, 0, 0))
            _add_shape(writer, gguf, shape, DTYPES[dtype][1])
            _add_vocabulary(writer, shape, vocabulary)
            for key, kind in kinds.items():
                laid_out = _laid_out(key, tensors[key])
                numbers, n_bytes = gguf.GGML_QUANT_SIZES[kind]
                writer.add_tensor_info(gguf_name(key), laid_out.shape, np.dtype(np.float32),
                                       laid_out.numel() // numbers * n_bytes, raw_dtype=kind)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            for key, kind in kinds.items():  # one at a time, so that no second copy of the model stands in memory
                data = _laid_out(key, tensors[key]).contiguous().numpy()
                writer.write_tensor_data(gguf.quants.quantize(data, kind).view(_Written))
        finally:
            writer.close()


class _Written(np.ndarray):
    """An array for the library to write: numpy's own tofile() says how many items were not written, and not why."""

    def tofile(self, file: BinaryIO) -> None:  # type: ignore[override]
        """Write the bytes; raise the system's OSError."""
        file.write(self.data)


def gguf_name(name: str) -> str:
    """Return llama.cpp's name of one of our tensors."""
    words = name.split(".")
    kind = words.pop()
    if words[0] == "h":
        return f"blk.{words[1]}.{_PLACES['.'.join(words[2:])]}.{kind}"
    return f"{_OUTER[words[0]]}.{kind}"


def _library() -> Any:
    try:
        import gguf
    except ImportError:
        raise Gpt2Error("GGUF needs the gguf package, which is not installed: pip install 'gpt2cli[export]'") from None
    return gguf


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library's log of its progress off standard error."""
    logger = logging.getLogger("gguf")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _add_shape(writer: Any, gguf: Any, shape: ModelShape, file_type: int) -> None:
    writer.add_block_count(shape.n_layer)
    writer.add_context_length(shape.n_ctx)
    writer.add_embedding_length(shape.n_embd)
    writer.add_feed_forward_length(4 * shape.n_embd)
    writer.add_head_count(shape.n_head)
    writer.add_layer_norm_eps(1e-5)
    writer.add_file_type(file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _add_vocabulary(writer: Any, shape: ModelShape, vocabulary: Vocabulary) -> None:
    kinds = [_NORMAL] * vocabulary.n_vocab + [_UNUSED] * (shape.n_vocab - vocabulary.n_vocab)
    kinds[vocabulary.eot] = _CONTROL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(token_names(vocabulary, shape.n_vocab, "[PAD{}]"))
    writer.add_token_types(kinds)
    writer.add_token_merges(merge_lines(vocabulary))
    writer.add_bos_token_id(vocabulary.eot)
    writer.add_eos_token_id(vocabulary.eot)
    writer.add_unk_token_id(vocabulary.eot)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)


def _laid_out(name: str, tensor: Tensor) -> Tensor:
    """Return a tensor as llama.cpp lays it out: matrices [out, in]."""
    return tensor.T if ".c_" in name and name.endswith(".weight") else tensor


def _kind(gguf: Any, name: str, tensor: Tensor, dtype: str) -> Any:
    """Return GGML's type of a tensor: rows that fill no blocks of 32 are kept in fp16."""
    plain = tensor.dim() == 1 or name == "wpe.weight"
    if dtype == "int8" and not plain and _laid_out(name, tensor).shape[-1] % _BLOCK:
        return gguf.GGMLQuantizationType.F16
    return gguf.GGMLQuantizationType["F32" if plain else DTYPES[dtype][0]]
