"""CTranslate2's model directory, laid out and written by its own specifications: model.bin, config.json, vocabulary.

Source: GPT2Loader in ctranslate2/converters/transformers.py, which does the same by way of transformers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpt2cli.errors import Gpt2Error
from gpt2cli.interchange.padded_tokens import token_names
from gpt2cli.model.number_range import check_range
from gpt2cli.sizes import ModelShape
from gpt2cli.tokens.vocabulary import END_OF_TEXT, Vocabulary

DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "int8": "int8"}
_NARROW = {"fp16": torch.float16, "bf16": torch.bfloat16}
FILES = ("model.bin", "config.json", "vocabulary.json")


def write_ctranslate2(directory: Path, tensors: dict[str, Tensor], shape: ModelShape, vocabulary: Vocabulary,
                      dtype: str) -> None:
    """Write CTranslate2's files into an empty directory; `tensors` are fp32 by our names.

    Raises Gpt2Error when ctranslate2 is not installed, UsageFault when a weight is too large for `dtype`, OSError.
    """
    try:
        from ctranslate2.specs import common_spec, transformer_spec
    except ImportError:
        raise Gpt2Error("this needs ctranslate2, which is not installed: pip install 'gpt2cli[export]'") from None
    if dtype in _NARROW:
        for name, tensor in tensors.items():
            check_range(name, tensor, _NARROW[dtype])
    spec = transformer_spec.TransformerDecoderModelSpec.from_config(
        shape.n_layer, shape.n_head, pre_norm=True, activation=common_spec.Activation.GELUTanh)
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    decoder = spec.decoder
    decoder.scale_embeddings = False
    decoder.embeddings.weight = arrays["wte.weight"]
    decoder.position_encodings.encodings = arrays["wpe.weight"]
    decoder.projection.weight = arrays["wte.weight"]
    _norm(decoder.layer_norm, arrays, "ln_f")
    for number, layer in enumerate(decoder.layer):
        _norm(layer.self_attention.layer_norm, arrays, f"h.{number}.ln_1")
        _linear(layer.self_attention.linear[0], arrays, f"h.{number}.attn.c_attn")
        _linear(layer.self_attention.linear[1], arrays, f"h.{number}.attn.c_proj")
        _norm(layer.ffn.layer_norm, arrays, f"h.{number}.ln_2")
        _linear(layer.ffn.linear_0, arrays, f"h.{number}.mlp.c_fc")
        _linear(layer.ffn.linear_1, arrays, f"h.{number}.mlp.c_proj")
    spec.register_vocabulary(token_names(vocabulary, shape.n_vocab, "madeupword{:04d}"))
    spec.config.bos_token = spec.config.eos_token = spec.config.unk_token = END_OF_TEXT
    spec.validate()
    spec.optimize(quantization=DTYPES[dtype])
    spec.save(str(directory))


def _norm(spec: Any, arrays: dict[str, np.ndarray], name: str) -> None:
    spec.gamma, spec.beta = arrays[f"{name}.weight"], arrays[f"{name}.bias"]


def _linear(spec: Any, arrays: dict[str, np.ndarray], name: str) -> None:
    spec.weight, spec.bias = np.ascontiguousarray(arrays[f"{name}.weight"].T), arrays[f"{name}.bias"]
