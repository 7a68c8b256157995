"""Hugging Face's GPT-2 directories: config.json with model.safetensors, whole or in shards, or pickled weights.

A pickled pytorch_model.bin is read only on the explicit flag, and only where there is no safetensors file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors
from torch import Tensor

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.interchange.foreign_model import ForeignModel, fitted, own_names
from gpt2cli.interchange.pickled_tensors import read_pickle
from gpt2cli.model.quantised_files import QUANTISED
from gpt2cli.model.weights import CONFIG, WEIGHTS, read_config, read_weights
from gpt2cli.records.checkpoint import read_json
from gpt2cli.records.named_file import open_named
from gpt2cli.records.safetensors_layout import check_safetensors, read_header
from gpt2cli.records.utf8_path import utf8_path
from gpt2cli.tokens.of_model import TOKENIZER_FILES
from gpt2cli.tokens.tokenizer_directory import read_tokenizer_directory

PICKLED = "pytorch_model.bin"
_INDEX = ".index.json"
_MOST_SHARDS = 1000


def read_huggingface(directory: Path, allow_pickle: bool) -> ForeignModel:
    """Read a directory. Raises UsageFault when weights or the flag are missing, BadInput for damage."""
    if not directory.is_dir():
        raise UsageFault(f"{directory} is no directory; name the one that holds {CONFIG} and the weights")
    if not (directory / CONFIG).is_file():
        raise UsageFault(f"{directory} holds no {CONFIG}; it is no Hugging Face model")
    shape, _ = read_config(directory)
    vocabulary = None
    if any((directory / name).is_file() for name in TOKENIZER_FILES):
        vocabulary = read_tokenizer_directory(directory)
    config = directory / CONFIG
    if (directory / WEIGHTS).is_file() or (directory / QUANTISED).is_file():  # the latter is refused in its own words
        return ForeignModel(shape, read_weights(directory / WEIGHTS, shape), (config, directory / WEIGHTS), vocabulary)
    state, files = _read_parts(directory, allow_pickle)
    size = sum(file.stat().st_size for file in files)
    tensors = fitted(own_names(state, str(directory)), shape, size, str(directory))
    return ForeignModel(shape, tensors, (config, *files), vocabulary)


def _read_parts(directory: Path, allow_pickle: bool) -> tuple[dict[str, Any], list[Path]]:
    """Return tensors by name and the files that held them: shards of safetensors, else pickles."""
    for name in (WEIGHTS, PICKLED):
        if (directory / name).is_file():
            return _state(directory / name, allow_pickle), [directory / name]
        if (directory / (name + _INDEX)).is_file():
            files = _shards(directory / (name + _INDEX))
            state: dict[str, Any] = {}
            for file in files:
                for key, tensor in _state(file, allow_pickle).items():
                    if key in state:
                        raise BadInput(f"{file} holds {ascii(key)[:80]}, which an earlier shard holds too")
                    state[key] = tensor
            return state, files
    raise UsageFault(f"{directory} holds neither {WEIGHTS} nor {PICKLED}")


def _shards(index: Path) -> list[Path]:
    table = read_json(index).get("weight_map")
    if not isinstance(table, dict) or not table or not all(isinstance(name, str) for name in table.values()):
        raise BadInput(f"{index} does not say which file holds which tensor")
    names = sorted(set(table.values()))
    if len(names) > _MOST_SHARDS or any(Path(name).name != name or "\0" in name for name in names):
        raise BadInput(f"{index} names a file outside its directory, or too many: {ascii(names[0])[:80]}")
    for name in names:
        if not (index.parent / name).is_file():
            raise BadInput(f"{index} names {ascii(name)[:80]}, which is not there")
    return [index.parent / name for name in names]


def _state(path: Path, allow_pickle: bool) -> dict[str, Any]:
    if path.suffix != ".safetensors":
        state = read_pickle(path, allow_pickle)
        if not isinstance(state, dict):
            raise BadInput(f"{path} is no state dict but a {type(state).__name__}")
        return state
    read_header(path)
    with open_named(path) as stream:
        check_safetensors(stream, str(path), path.stat().st_size)
    tensors: dict[str, Tensor] = {}
    try:
        with utf8_path(path) as named, safetensors.safe_open(named, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118
                tensors[key] = file.get_tensor(key)
    except (safetensors.SafetensorError, OverflowError, TypeError) as error:
        raise BadInput(f"{path} is no sound safetensors file: {ascii(str(error))[:200]}") from None
    return tensors
