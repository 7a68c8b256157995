"""OpenAI's released form of GPT-2: a TensorFlow checkpoint, hparams.json, encoder.json and vocab.bpe in a directory.

Source: openai/gpt-2, src/model.py and download_model.py. A matrix is stored [1, in, out], since it is the kernel of a
convolution of width 1; a norm's gain is `g`, every bias `b`. Written files are those that TensorFlow's Saver writes.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.interchange.foreign_model import ForeignModel, fitted, named_shape
from gpt2cli.interchange.tensor_bundle import DT_BFLOAT16, BundleReader, index_path, write_bundle
from gpt2cli.records.atomic import write_atomic
from gpt2cli.records.checkpoint import read_json
from gpt2cli.records.named_file import open_named
from gpt2cli.sizes import ModelShape
from gpt2cli.tokens.export_vocabulary import vocabulary_file
from gpt2cli.tokens.tokenizer_directory import read_tokenizer_directory
from gpt2cli.tokens.vocabulary import Vocabulary

PREFIX = "model.ckpt"
HPARAMS = "hparams.json"
FILES = ("checkpoint", HPARAMS, "encoder.json", "vocab.bpe", f"{PREFIX}.index", f"{PREFIX}.data-00000-of-00001")
_POINTER = f'model_checkpoint_path: "{PREFIX}"\nall_model_checkpoint_paths: "{PREFIX}"\n'
_SIZES = ("n_vocab", "n_ctx", "n_embd", "n_head", "n_layer")
_OWN = re.compile(r"model/(?:(wte|wpe)|h(\d{1,6})/(ln_1|ln_2|attn/c_attn|attn/c_proj|mlp/c_fc|mlp/c_proj)/([gbw])|"
                  r"ln_f/([gb]))")


def write_openai(directory: Path, tensors: dict[str, Tensor], shape: ModelShape, vocabulary: Vocabulary) -> None:
    """Write OpenAI's files into an empty directory; `tensors` are fp32 by our names.

    Raises UsageFault for a vocabulary that encoder.json and vocab.bpe cannot hold, OSError.
    """
    merges = vocabulary_file(vocabulary, "vocab.bpe")
    write_atomic(directory / "encoder.json", vocabulary_file(vocabulary, "encoder.json"))
    write_atomic(directory / "vocab.bpe", merges)
    sizes = {name: getattr(shape, name) for name in _SIZES}
    write_atomic(directory / HPARAMS, json.dumps(sizes, indent=2).encode() + b"\n")
    named = {_openai_name(name): _openai_layout(name, tensor) for name, tensor in tensors.items()}
    write_bundle(directory / PREFIX, named)
    write_atomic(directory / "checkpoint", _POINTER.encode())


def read_openai(path: Path) -> ForeignModel:
    """Read a directory as OpenAI's download_model.py makes it, or one of several checkpoints in it by its prefix.

    Raises UsageFault when it is not clear which checkpoint is meant, BadInput for damage or another network.
    """
    directory, prefix = _locate(path)
    hparams = directory / HPARAMS
    if not hparams.is_file():
        raise UsageFault(f"{directory} has no {HPARAMS}, which says the number of heads; take OpenAI's of that size")
    table = read_json(hparams)
    shape = named_shape({name: table.get(name) for name in _SIZES}, str(hparams))
    reader = BundleReader(prefix)
    for file in reader.paths():
        if not file.is_file():
            raise BadInput(f"{file} is missing: the checkpoint's index names it")
    tensors, others = {}, []
    for stored in reader.entries:
        name = _our_name(stored)
        if name is None:
            others.append(stored)
            continue
        tensors[name] = _torch_layout(reader.read(stored), reader.entries[stored].dtype, name)
    name = str(index_path(prefix))
    source_bytes = sum(file.stat().st_size for file in reader.paths())
    vocabulary = None
    if (directory / "vocab.bpe").is_file():
        vocabulary = read_tokenizer_directory(directory)
    left_out = f"{len(others)} tensors that are no weights, such as {ascii(others[0])[:60]}" if others else ""
    return ForeignModel(shape, fitted(tensors, shape, source_bytes, name), (hparams, *reader.paths()), vocabulary,
                        left_out)


def is_openai(path: Path) -> bool:
    """Whether `path` looks like such a directory, or a checkpoint's prefix or index."""
    if path.is_dir():
        return (path / HPARAMS).is_file() or any(path.glob("*.index"))
    return path.suffix == ".index" or index_path(path).is_file()


def _locate(path: Path) -> tuple[Path, Path]:
    """Return the directory and the checkpoint's prefix in it."""
    if not path.is_dir():
        prefix = path.with_name(path.name.removesuffix(".index"))
        if not index_path(prefix).is_file():
            raise UsageFault(f"there is no TensorFlow checkpoint at {path}")
        return path.parent, prefix
    if (path / "checkpoint").is_file():
        with open_named(path / "checkpoint") as file:
            found = re.match(rb'model_checkpoint_path: "([^"\\\n]{1,200})"', file.read(4096))
        # an absolute path is of the machine that wrote it: only the name is looked at
        name = Path(found[1].decode("utf-8", "replace")).name if found else ""
        if name and index_path(path / name).is_file():
            return path, path / name
    tables = sorted(path.glob("*.index"))
    if len(tables) != 1:
        what = "no TensorFlow checkpoint (*.index)" if not tables else f"{len(tables)} checkpoints"
        raise UsageFault(f"{path} holds {what}; name one by its prefix, such as {path / PREFIX}")
    return path, tables[0].with_name(tables[0].name.removesuffix(".index"))


def _openai_name(name: str) -> str:
    words = name.split(".")
    if words[0] == "h":
        words[:2] = [f"h{words[1]}"]
    kind = words.pop()
    if words[-1] in ("wte", "wpe"):
        return f"model/{words[-1]}"
    gain = words[-1].startswith("ln_")
    return "/".join(["model", *words, "b" if kind == "bias" else "g" if gain else "w"])


def _our_name(name: str) -> str | None:
    """Return our name of a weight; None for what is none (optimizer state, step counters)."""
    found = _OWN.fullmatch(name)
    if found is None:
        return None
    embedding, layer, place, kind, last = found.groups()
    if embedding:
        return f"{embedding}.weight"
    if last:
        return f"ln_f.{'bias' if last == 'b' else 'weight'}"
    return f"h.{layer}.{place.replace('/', '.')}.{'bias' if kind == 'b' else 'weight'}"


def _openai_layout(name: str, tensor: Tensor) -> np.ndarray:
    array = tensor.numpy()
    matrix = name.endswith(".weight") and ".c_" in name
    return array[None] if matrix else array


def _torch_layout(array: np.ndarray, dtype: int, name: str) -> Tensor:
    tensor = torch.from_numpy(array.view(np.int16)).view(torch.bfloat16) if dtype == DT_BFLOAT16 else (
        torch.from_numpy(array))
    if name.endswith(".weight") and ".c_" in name and tensor.dim() == 3 and tensor.shape[0] == 1:
        return tensor[0]
    return tensor
