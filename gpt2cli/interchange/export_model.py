"""`gpt2 export`: a model in another program's files, whole or not at all."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gpt2cli.errors import UsageFault
from gpt2cli.interchange import ctranslate2_directory, gguf_file, llmc_checkpoint, onnx_graph, openai_checkpoint
from gpt2cli.interchange.ctranslate2_directory import write_ctranslate2
from gpt2cli.interchange.gguf_file import write_gguf
from gpt2cli.interchange.llmc_checkpoint import write_llmc
from gpt2cli.interchange.onnx_graph import write_onnx
from gpt2cli.interchange.openai_checkpoint import write_openai
from gpt2cli.model.weights import CONFIG, WEIGHTS, huggingface_config, read_config, read_weights
from gpt2cli.records.atomic import atomic_directory, atomic_file, check_new_directory
from gpt2cli.records.checkpoint import list_files, resolve_model, write_json
from gpt2cli.reporter import Reporter
from gpt2cli.sizes import ModelShape
from gpt2cli.tokens.huggingface import FILES as TOKENIZER_FILES
from gpt2cli.tokens.huggingface import write_tokenizer_files
from gpt2cli.tokens.of_model import vocabulary_of_model
from gpt2cli.tokens.vocabulary import Vocabulary

DTYPES: dict[str, tuple[str, ...]] = {
    "gguf": tuple(gguf_file.DTYPES),
    "ctranslate2": tuple(ctranslate2_directory.DTYPES),
    "onnx": ("fp32",),
    "openai": ("fp32",),
    "llm.c": tuple(llmc_checkpoint.VERSIONS),
}
"""Kind of export -> the types its weights can be written in."""
FILE_KINDS = ("gguf", "llm.c")
"""Kinds that are one file; the others are directories."""
_DIRECTORY_FILES = {
    "ctranslate2": ctranslate2_directory.FILES,
    "onnx": (onnx_graph.MODEL, onnx_graph.WEIGHTS, CONFIG, *TOKENIZER_FILES),
    "openai": openai_checkpoint.FILES,
}


@dataclass(frozen=True)
class ExportConfig:
    """Which model (None: the newest run under runs/), as which kind, where, and in which type."""

    model: str | None
    kind: str
    output: str
    dtype: str = "fp32"
    force: bool = False


@dataclass(frozen=True)
class ExportSummary:
    """What was written: relative names (one file: none) and all of their bytes."""

    output: Path
    shape: ModelShape
    names: tuple[str, ...]
    n_bytes: int


@dataclass(frozen=True)
class _Model:
    tensors: dict[str, Tensor]
    shape: ModelShape
    vocabulary: Vocabulary
    name: str


def export_model(config: ExportConfig, reporter: Reporter) -> ExportSummary:
    """Write a model in another program's form.

    Raises UsageFault when the kind has no such type, the output exists or the model is not there; BadInput when the
    model is damaged; Gpt2Error when the library that writes the kind is not installed; OSError.
    """
    if config.kind not in DTYPES:
        raise UsageFault(f"there is no kind {config.kind!r} to export; kinds are {', '.join(DTYPES)}")
    if config.dtype not in DTYPES[config.kind]:
        raise UsageFault(f"{config.kind} takes {', '.join(DTYPES[config.kind])}, not {config.dtype}")
    output = Path(config.output)
    source = resolve_model(config.model, reporter.warn)
    if config.kind in FILE_KINDS:
        _check_new_file(output, config.force)
    else:
        check_new_directory(output, config.force, _DIRECTORY_FILES[config.kind].__contains__, "this export")
        if output.exists() and output.samefile(source.directory):
            raise UsageFault(f"{output} is the model itself; choose another -o")
    shape, _ = read_config(source.directory)
    reporter.note(f"{source.directory}: {shape.n_params:,} parameters, to {config.kind} in {config.dtype}")
    stored = read_weights(source.directory / WEIGHTS, shape)
    tensors = {name: tensor.to(torch.float32) for name, tensor in stored.items()}
    vocabulary = vocabulary_of_model(source.directory, shape.n_vocab, reporter)
    model = _Model(tensors, shape, vocabulary, source.run or "gpt2")
    if config.kind in FILE_KINDS:
        with atomic_file(output, force=config.force) as file:
            if config.kind == "llm.c":
                write_llmc(file, tensors, shape, config.dtype)
            else:
                write_gguf(Path(file.name), tensors, shape, vocabulary, config.dtype, model.name)
        return ExportSummary(output, shape, (), output.stat().st_size)
    with atomic_directory(os.path.realpath(output)) as directory:
        try:
            _fill(directory, model, config)
        except OSError as error:
            error.filename = str(output)
            raise
        names = tuple(list_files(directory))
        n_bytes = sum((directory / name).stat().st_size for name in names)
    return ExportSummary(output, shape, names, n_bytes)


def _fill(directory: Path, model: _Model, config: ExportConfig) -> None:
    if config.kind == "ctranslate2":
        write_ctranslate2(directory, model.tensors, model.shape, model.vocabulary, config.dtype)
    elif config.kind == "openai":
        write_openai(directory, model.tensors, model.shape, model.vocabulary)
    else:
        write_onnx(directory, model.tensors, model.shape)
        write_json(directory / CONFIG, huggingface_config(model.shape, model.vocabulary.eot))
        write_tokenizer_files(model.vocabulary, directory, model.shape.n_ctx)


def _check_new_file(output: Path, force: bool) -> None:
    """Say what is in the way before the weights are read. The write itself looks again."""
    if not output.resolve().parent.is_dir():
        raise UsageFault(f"the directory of {output} does not exist; make it first")
    if output.is_dir():
        raise UsageFault(f"{output} is a directory; choose another -o")
    if output.is_file() and not force:
        raise UsageFault(f"{output} exists; give --force to replace it, or another name")
