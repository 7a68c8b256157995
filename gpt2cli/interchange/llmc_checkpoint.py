"""llm.c's model files (gpt2_124M.bin): 256 int32 of header, then the parameters kind by kind, all layers of a kind.

Source: write_model in llm.c's train_gpt2.py, read back by gpt2_build_from_checkpoint. Header: magic 20240326, version
(3 fp32, 5 bf16), context, ids, layers, heads, width, ids padded to a multiple of 128. Matrices are stored [out, in],
the token embedding with zeros in the padding. A file carries no vocabulary.
"""

from __future__ import annotations

import math
import struct
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from gpt2cli.errors import BadInput
from gpt2cli.interchange.foreign_model import ForeignModel, fitted, named_shape
from gpt2cli.model.number_range import check_range
from gpt2cli.records.named_file import open_named
from gpt2cli.sizes import ModelShape

MAGIC = 20240326
VERSIONS = {"fp32": 3, "bf16": 5}
HEADER_BYTES = 1024
_PADDING = 128
_LAYERED = ("ln_1.weight", "ln_1.bias", "attn.c_attn.weight", "attn.c_attn.bias", "attn.c_proj.weight",
            "attn.c_proj.bias", "ln_2.weight", "ln_2.bias", "mlp.c_fc.weight", "mlp.c_fc.bias", "mlp.c_proj.weight",
            "mlp.c_proj.bias")


def write_llmc(file: BinaryIO, tensors: dict[str, Tensor], shape: ModelShape, dtype: str) -> None:
    """Write a model of fp32 tensors by our names; dtype "fp32" or "bf16". UsageFault where a weight is too large."""
    if dtype == "bf16":
        for name in tensors:
            check_range(name, tensors[name], torch.bfloat16)
    padded = -(-shape.n_vocab // _PADDING) * _PADDING
    numbers = (MAGIC, VERSIONS[dtype], shape.n_ctx, shape.n_vocab, shape.n_layer, shape.n_head, shape.n_embd, padded)
    file.write(struct.pack("<8i", *numbers).ljust(HEADER_BYTES, b"\0"))
    for name in _order(shape.n_layer):
        tensor = tensors[name].T if _is_matrix(name) else tensors[name]
        file.write(_bytes(tensor, dtype))
        if name == "wte.weight":
            file.write(bytes((padded - shape.n_vocab) * shape.n_embd * (4 if dtype == "fp32" else 2)))


def read_llmc(path: Path) -> ForeignModel:
    """Read a model file; raise BadInput for a wrong magic, version, size or number."""
    with open_named(path) as file:
        size = path.stat().st_size
        shape, padded, version = _header(file.read(HEADER_BYTES), str(path))
        width = 4 if version == VERSIONS["fp32"] else 2
        expected = HEADER_BYTES + width * (shape.n_params + (padded - shape.n_vocab) * shape.n_embd)
        if size != expected:
            raise BadInput(f"{path} has {size:,} bytes, its header says {expected:,}: it was cut short or changed")
        tensors = {}
        for name in _order(shape.n_layer):
            tensors[name] = _read(file, _stored_size(name, shape, padded), width, str(path))
    tensors["wte.weight"] = tensors["wte.weight"][: shape.n_vocab]
    turned = {name: tensor.T if _is_matrix(name) else tensor for name, tensor in tensors.items()}
    return ForeignModel(shape, fitted(turned, shape, size, str(path)), (path,))


def is_llmc(start: bytes) -> bool:
    """Whether a file that begins so is a model of llm.c's."""
    return len(start) >= 4 and struct.unpack("<i", start[:4])[0] == MAGIC


def _header(data: bytes, name: str) -> tuple[ModelShape, int, int]:
    if len(data) < HEADER_BYTES:
        raise BadInput(f"{name} is no model of llm.c's: it has {len(data)} bytes, the header alone has {HEADER_BYTES}")
    magic, version, n_ctx, n_vocab, n_layer, n_head, n_embd, padded = struct.unpack_from("<8i", data)
    if magic != MAGIC:
        raise BadInput(f"{name} is no model of llm.c's: it begins with {magic}, not {MAGIC}")
    if version not in VERSIONS.values():
        raise BadInput(f"{name} is of llm.c's version {version}; 3 (fp32) and 5 (bf16) are read. Write it again by "
                       "llm.c's train_gpt2.py")
    shape = named_shape({"n_layer": n_layer, "n_head": n_head, "n_embd": n_embd, "n_ctx": n_ctx, "n_vocab": n_vocab},
                        f"{name}: its header")
    if padded < n_vocab:
        raise BadInput(f"{name}: its header pads {n_vocab} ids to {padded}")
    return shape, padded, version


def _order(n_layer: int) -> list[str]:
    layered = [f"h.{layer}.{name}" for name in _LAYERED for layer in range(n_layer)]
    return ["wte.weight", "wpe.weight", *layered, "ln_f.weight", "ln_f.bias"]


def _is_matrix(name: str) -> bool:
    return name.endswith(".weight") and ".c_" in name


def _stored_size(name: str, shape: ModelShape, padded: int) -> tuple[int, ...]:
    d = shape.n_embd
    place, kind = name.split(".")[-2:]
    if kind == "weight" and place in ("wte", "wpe"):
        return (padded if place == "wte" else shape.n_ctx, d)
    out = {"c_attn": 3 * d, "c_fc": 4 * d}.get(place, d)
    if kind == "bias" or place.startswith("ln_"):
        return (out,)
    return (out, 4 * d if name.endswith("mlp.c_proj.weight") else d)


def _bytes(tensor: Tensor, dtype: str) -> memoryview:
    if dtype == "bf16":
        return tensor.to(torch.bfloat16).contiguous().view(torch.int16).numpy().astype("<i2", copy=False).data
    return tensor.contiguous().numpy().astype("<f4", copy=False).data


def _read(file: BufferedReader, size: tuple[int, ...], width: int, name: str) -> Tensor:
    count = math.prod(size)
    values = np.empty(count, "<f4" if width == 4 else "<i2")
    if file.readinto(values.view(np.uint8).data) != values.nbytes:
        raise BadInput(f"{name} was cut short while it was read")
    tensor = torch.from_numpy(values).view(size)
    return tensor if width == 4 else tensor.view(torch.bfloat16)
