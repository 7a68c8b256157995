"""Weights in and out, in Hugging Face's GPT-2 layout: config.json and model.safetensors. No pickle, ever.

A checkpoint is hostile until checked: header size, names, shapes, dtypes and values are looked at before use.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor, nn

from gpt2cli.errors import BadInput, Gpt2Error, IOFailure, UsageFault, os_sentence
from gpt2cli.model.gpt2 import GPT2, Projection, replace_projections
from gpt2cli.model.integer_linear import kernels_exist
from gpt2cli.model.linear import PackedLinear, has_onednn
from gpt2cli.model.narrow import narrowed
from gpt2cli.model.quantised import Quantisation, widened
from gpt2cli.model.quantised_files import KEY, QUANTISED, integer_model, read_quantisation, read_quantised
from gpt2cli.records.checkpoint import MANIFEST, read_json, read_manifest, write_json
from gpt2cli.records.provenance import file_sha256
from gpt2cli.records.safetensors_layout import read_header
from gpt2cli.records.utf8_path import utf8_path
from gpt2cli.sizes import ModelShape

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
PREFIX = "transformer."
_FLOATS = ("F64", "F32", "F16", "BF16")
_NAMES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
          torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL"}
_SHOWN = 80
"""Characters of a wrong value that a message repeats."""
_GELU_TANH = ("gelu_new", "gelu_pytorch_tanh")


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to run: in eval mode, on its device; `eot` is its end-of-text id.

    quantisation: how its weights are stored, None for as they are; integer: whether they are multiplied so.
    """

    model: GPT2
    shape: ModelShape
    eot: int
    quantisation: Quantisation | None = None
    integer: bool = False


def save_weights(
    state: dict[str, Tensor], shape: ModelShape, eot: int, directory: Path,
    whole: Callable[[str, Tensor], Tensor] = lambda name, tensor: tensor,
) -> None:
    """Write config.json, generation_config.json and model.safetensors (fp32, Hugging Face names) for `state`.

    whole(name, tensor): what is written for a tensor of `state`, of its shape, made when its turn comes.
    """
    tensors = {PREFIX + name: tensor.detach() for name, tensor in state.items()}
    write_tensors(tensors, directory / WEIGHTS, torch.float32,
                  lambda name, tensor: whole(name.removeprefix(PREFIX), tensor).float())
    write_json(directory / CONFIG, huggingface_config(shape, eot))
    generation = {"_from_model_config": True, "bos_token_id": eot, "eos_token_id": eot}
    write_json(directory / "generation_config.json", generation)


def write_tensors(
    tensors: dict[str, Tensor], path: Path, dtype: torch.dtype | None = None,
    made: Callable[[str, Tensor], Tensor] = lambda name, tensor: tensor,
) -> None:
    """Write a safetensors file from where the tensors lie; raise IOFailure when the disk does not take it.

    Raises Gpt2Error where a value is not finite: nothing here makes one, and no reader takes one.
    dtype: the type of all that made(name, tensor) returns, each asked for when it is written; None: as they are.
    The library's own writer copies all of them first, which for Adam's moments is twice the model.
    """
    types = {name: dtype or tensor.dtype for name, tensor in tensors.items()}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    order = sorted(types, key=lambda name: (-types[name].itemsize, name))  # so that each begins at its alignment
    end = 0
    for name in order:
        start, end = end, end + tensors[name].numel() * types[name].itemsize
        header[name] = {"dtype": _NAMES[types[name]], "shape": list(tensors[name].shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    try:
        with open(path, "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for name in order:
                written = made(name, tensors[name]).detach().to("cpu").contiguous()
                if written.is_floating_point() and not bool(torch.isfinite(written.sum(dtype=torch.float64))):
                    raise Gpt2Error(f"{name} holds a value that is not finite, so nothing is saved: no "
                                    "computation here makes one, so this machine's memory is at fault. What was saved "
                                    "before is whole")
                file.write(written.reshape(-1).view(torch.uint8).numpy().data)
    except OSError as error:
        error.filename = path.name
        raise IOFailure(f"cannot write {os_sentence(error)}") from None


def huggingface_config(shape: ModelShape, eot: int) -> dict[str, Any]:
    """Return the config.json that makes `transformers` compute exactly this network."""
    return {
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2",
        "n_layer": shape.n_layer, "n_head": shape.n_head, "n_embd": shape.n_embd, "n_inner": None,
        "n_positions": shape.n_ctx, "n_ctx": shape.n_ctx, "vocab_size": shape.n_vocab,
        "bos_token_id": eot, "eos_token_id": eot,
        "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "initializer_range": 0.02,
        "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0,
        "scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "reorder_and_upcast_attn": False,
        "tie_word_embeddings": True, "use_cache": True, "dtype": "float32", "torch_dtype": "float32",
    }


def load_model(
    directory: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32,
    prefer_integer: bool = False,
) -> LoadedModel:
    """Load a checkpoint, a quantised model or any Hugging Face GPT-2 directory for inference.

    Quantised weights are widened to `dtype`, or, with prefer_integer and on a CPU that can, multiplied as they are.
    Raises BadInput when a file is damaged, hostile or of another architecture, UsageFault when weights are missing.
    """
    shape, eot = read_config(directory)
    form = read_quantisation(read_json(directory / CONFIG), directory / CONFIG, shape)
    integer = form is not None and prefer_integer and torch.device(device).type == "cpu" and kernels_exist()
    if form is None:
        model = _with_parameters(read_weights(directory / WEIGHTS, shape), shape, torch.device(device), dtype)
    else:
        tensors = read_quantised(directory / QUANTISED, shape, form)
        model = integer_model(tensors, shape, form) if integer else _with_parameters(
            widened(tensors, form), shape, torch.device(device), dtype)
    return LoadedModel(model.eval().requires_grad_(False), shape, eot, form, integer)


def _with_parameters(tensors: dict[str, Tensor], shape: ModelShape, device: torch.device, dtype: torch.dtype) -> GPT2:
    with torch.device("meta"):
        model = GPT2(shape)
    if dtype == torch.float32:
        placed, mean_C = {name: tensor.to(device, dtype) for name, tensor in tensors.items()}, None
    else:
        placed, mean_C = narrowed(tensors, dtype, device)
    model.load_state_dict(placed, assign=True)
    model.wte.mean_C = mean_C
    if dtype == torch.bfloat16 and device.type == "cpu" and has_onednn(dtype):
        _pack(model)
    return model


@torch.no_grad()
def _pack(model: GPT2) -> None:
    """Lay the matrices out for inference alone: the network can then no longer be called, trained or saved."""
    def packed(name: str, plain: nn.Module) -> PackedLinear:
        assert isinstance(plain, Projection)
        return PackedLinear(plain.weight.T, plain.bias)

    replace_projections(model, packed)
    model.wte.head = PackedLinear(model.wte.weight, None)


def read_config(directory: Path) -> tuple[ModelShape, int]:
    """Return (shape, end-of-text id) from config.json; BadInput for a configuration that GPT2 doesn't compute."""
    path = directory / CONFIG
    config = read_json(path)
    if config.get("model_type") != "gpt2":
        found = config.get("model_type")
        raise BadInput(f"{path} " + ("names no model_type, which must be gpt2" if found is None else
                                     f"describes a {str(found)[:40]!r} model, not gpt2"))
    wanted = {
        "scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "reorder_and_upcast_attn": False,
        "tie_word_embeddings": True, "add_cross_attention": False, "layer_norm_epsilon": 1e-5,
    }
    for name, value in wanted.items():
        if config.get(name, value) != value:
            raise BadInput(f"{path}: {name} is {_shown(config[name])}; this program computes GPT-2 with {value!r} only")
    if config.get("activation_function", "gelu_new") not in _GELU_TANH:
        raise BadInput(f"{path}: activation {_shown(config['activation_function'])} is not GPT-2's tanh GELU")
    try:
        n_embd = _number(config, "n_embd", path)
        shape = ModelShape(_number(config, "n_layer", path), _number(config, "n_head", path), n_embd,
                           _number(config, "n_positions", path), _number(config, "vocab_size", path))
    except UsageFault as error:
        raise BadInput(f"{path}: {error}") from None
    if config.get("n_inner") not in (None, 4 * n_embd):
        raise BadInput(f"{path}: n_inner is {_shown(config['n_inner'])}; GPT-2's is 4 n_embd = {4 * n_embd}")
    eot = config.get("eos_token_id", shape.n_vocab - 1)
    if not isinstance(eot, int) or not 0 <= eot < shape.n_vocab:
        eot = shape.n_vocab - 1
    return shape, eot


def read_weights(path: Path, shape: ModelShape) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file under our names, each checked against `shape` and for finite values.

    Accepts names with and without `transformer.`; ignores attention masks and a tied lm_head. Raises BadInput for
    anything missing, unknown, misshapen or not finite.
    """
    if path.with_name(QUANTISED).is_file():
        raise UsageFault(f"{path.parent} holds quantised weights, which only inference takes; give the model that they "
                         "were made from")
    if not path.parent.exists():
        raise Gpt2Error(f"{path.parent} is gone: the run that it was of has let go of it since; run it again")
    if not path.is_file():
        pickled = path.with_name("pytorch_model.bin").exists()
        hint = "gpt2 import --allow-pickle makes a checkpoint of its pickled pytorch_model.bin" if pickled else ""
        raise UsageFault(f"{path.parent} has no {WEIGHTS}" + (f": {hint}" if hint else ""))
    header = read_header(path)
    if shape.n_layer > len(header):  # before a network of a claimed billion layers is laid out
        raise BadInput(f"{path} holds {len(header)} tensors, config.json asks for {shape.n_layer} layers")
    stored = _match_names(header, _expected_sizes(shape, path), path)
    tensors = {}
    try:
        with utf8_path(path) as named, safetensors.safe_open(named, framework="pt") as file:
            for name, stored_name in stored.items():
                tensors[name] = file.get_tensor(stored_name)
    except (safetensors.SafetensorError, OverflowError, TypeError) as error:
        raise BadInput(f"{path} is no sound safetensors file: {error}") from None
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise BadInput(f"{path}: {name} holds values that are not finite")
    return tensors


def weights_sha256(directory: Path) -> str:
    """Return the sha256 of a model directory's weights: its manifest's word for it, or else the file's."""
    name = WEIGHTS if KEY not in read_json(directory / CONFIG) else QUANTISED
    if (directory / MANIFEST).is_file():
        entry = read_manifest(directory)["files"].get(name)
        if entry is not None:
            return str(entry["sha256"])
    return file_sha256(directory / name)


def _number(config: dict[str, Any], name: str, path: Path) -> int:
    value = config.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
        raise BadInput(f"{path}: {name} is {_shown(value)}, not a positive number")
    return value


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _expected_sizes(shape: ModelShape, path: Path) -> dict[str, torch.Size]:
    try:
        with torch.device("meta"):
            return {name: tensor.shape for name, tensor in GPT2(shape).state_dict().items()}
    except RuntimeError as error:
        raise BadInput(f"{path.parent / CONFIG} asks for tensors that no machine holds: {error}") from None


def _match_names(header: dict[str, Any], expected: dict[str, torch.Size], path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for stored_name, entry in header.items():
        name = stored_name.removeprefix(PREFIX)
        if name == "lm_head.weight" or name.endswith((".attn.bias", ".attn.masked_bias")):
            continue
        if name not in expected:
            raise BadInput(f"{path} holds a tensor that GPT-2 has not: {stored_name[:80]!r}")
        if entry.get("dtype") not in _FLOATS:
            raise BadInput(f"{path}: {name} is of type {_shown(entry.get('dtype'))}, not a floating-point one")
        if entry.get("shape") != list(expected[name]):
            wanted = list(expected[name])
            raise BadInput(f"{path}: {name} has shape {_shown(entry.get('shape'))}, config.json asks for {wanted}")
        if name in found:
            raise BadInput(f"{path} holds {name} twice, with and without {PREFIX!r}")
        found[name] = stored_name
    missing = sorted(expected.keys() - found.keys())
    if missing:
        more = f" and {len(missing) - 1} more tensors" if len(missing) > 1 else ""
        raise BadInput(f"{path} lacks {missing[0]}{more}")
    return found
