"""A quantised model's directory: config.json that says how, and quantised.safetensors. Hostile until checked.

Beside them stands no model.safetensors: no other program takes the file for weights that it knows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import safetensors
import torch
from torch import Tensor, nn

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.model.gpt2 import GPT2, replace_projections
from gpt2cli.model.integer_linear import Int4Linear, Int8Linear, Int8Table
from gpt2cli.model.quantised import SCHEMA, Quantisation, as_config, layout
from gpt2cli.records.checkpoint import read_json
from gpt2cli.records.safetensors_layout import read_header
from gpt2cli.records.schemas import refuse_newer
from gpt2cli.records.utf8_path import utf8_path
from gpt2cli.sizes import ModelShape

QUANTISED = "quantised.safetensors"
KEY = "gpt2_quantisation"
"""The key of config.json that says how."""


def read_quantisation(config: dict[str, Any], path: Path, shape: ModelShape) -> Quantisation | None:
    """Return how the weights of a directory are stored, from its config.json (`path`); None: not quantised.

    Raises BadInput for what quantise does not make, and for a newer form than ours.
    """
    said = config.get(KEY)
    if said is None:
        return None
    if not isinstance(said, dict) or not all(isinstance(said.get(name), int | None) for name in ("bits", "group_size")):
        raise BadInput(f"{path}: {KEY} is no table of bits and group_size")
    refuse_newer(said.get("schema"), SCHEMA, str(path))
    form = Quantisation(cast(int, said.get("bits")), said.get("group_size"))
    try:
        form.check(shape)
    except UsageFault as error:
        raise BadInput(f"{path}: {error}") from None
    return form


def read_quantised(path: Path, shape: ModelShape, form: Quantisation) -> dict[str, Tensor]:
    """Return the tensors of a quantised file, each checked for its name, type, shape and finite values.

    Raises UsageFault where the file is missing, BadInput where it is damaged or hostile.
    """
    if not path.is_file():
        raise UsageFault(f"{path.parent} has no {QUANTISED}, though its config.json says that it is quantised")
    header = read_header(path)
    expected = layout(shape, form) if shape.n_layer <= len(header) else {}
    for name, entry in header.items():
        if name not in expected:
            raise BadInput(f"{path} holds a tensor that a model of {form.bits} bits and {shape.n_layer} layers has "
                           f"not: {name[:80]!r}")
        kind, size = expected[name]
        if entry.get("dtype") != kind or entry.get("shape") != size:
            raise BadInput(f"{path}: {name} is {entry.get('dtype')!r:.20} of shape {str(entry.get('shape'))[:80]}, "
                           f"config.json asks for {kind} of {size}")
    missing = sorted(expected.keys() - header.keys())
    if missing or not expected:
        raise BadInput(f"{path} lacks {missing[0] if missing else 'tensors for the layers that config.json asks for'}")
    try:
        with utf8_path(path) as named, safetensors.safe_open(named, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in expected}
    except (safetensors.SafetensorError, OverflowError, TypeError) as error:
        raise BadInput(f"{path} is no sound safetensors file: {error}") from None
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise BadInput(f"{path}: {name} holds values that are not finite")
    return tensors


def integer_model(tensors: dict[str, Tensor], shape: ModelShape, form: Quantisation) -> GPT2:
    """Return the network on a CPU with its matrices left in integers."""
    with torch.device("meta"):
        model = GPT2(shape)

    def kernel(name: str, _: nn.Module) -> nn.Module:
        q, scale, bias = (tensors[f"{name}.{part}"] for part in ("q", "scale", "bias"))
        return Int8Linear(q, scale, bias) if form.group is None else Int4Linear(
            q, scale, tensors[f"{name}.offset"], bias)

    replace_projections(model, kernel)
    model.wte = Int8Table(tensors["wte.q"], tensors["wte.scale"], tensors["wte.mean"])  # type: ignore[assignment]
    plain = {name: tensors[name] for name in model.state_dict()}
    plain["wpe.weight"] = plain["wpe.weight"] + tensors["wte.mean"]
    model.load_state_dict(plain, assign=True)
    return model


def quantised_config(config_path: Path, form: Quantisation) -> dict[str, Any]:
    """Return config.json of the quantised model, given that of the model it is made from."""
    return read_json(config_path) | {KEY: as_config(form)}
