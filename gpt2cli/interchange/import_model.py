"""`gpt2 import`: another program's model becomes a checkpoint of ours, sealed, or nothing is left behind."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.interchange.foreign_model import ForeignModel, padded_gpt2_vocabulary
from gpt2cli.interchange.huggingface_directory import PICKLED, read_huggingface
from gpt2cli.interchange.llmc_checkpoint import is_llmc, read_llmc
from gpt2cli.interchange.nanogpt_checkpoint import read_nanogpt
from gpt2cli.interchange.openai_checkpoint import is_openai, read_openai
from gpt2cli.interchange.pickled_tensors import is_pickle
from gpt2cli.model.weights import CONFIG, WEIGHTS, save_weights
from gpt2cli.records.atomic import atomic_directory, check_new_directory
from gpt2cli.records.checkpoint import MANIFEST, list_files, write_manifest
from gpt2cli.records.named_file import open_named
from gpt2cli.records.provenance import file_sha256
from gpt2cli.reporter import Reporter
from gpt2cli.sizes import ModelShape
from gpt2cli.tokens.huggingface import FILES as TOKENIZER_FILES
from gpt2cli.tokens.huggingface import write_tokenizer_files
from gpt2cli.tokens.vocabulary import Vocabulary, load_vocabulary

KINDS = ("openai", "huggingface", "llm.c", "nanogpt")
_OWN_FILES = (CONFIG, "generation_config.json", WEIGHTS, MANIFEST, *TOKENIZER_FILES)


@dataclass(frozen=True)
class ImportConfig:
    """What to read, as which kind (None: told by its content), and where the checkpoint goes.

    vocab names a vocabulary for files without one; allow_pickle lets PyTorch's pickles be read.
    """

    path: str
    output: str
    kind: str | None = None
    vocab: str | None = None
    allow_pickle: bool = False
    force: bool = False


@dataclass(frozen=True)
class ImportSummary:
    """What was imported."""

    kind: str
    shape: ModelShape
    directory: Path


def import_model(config: ImportConfig, reporter: Reporter) -> ImportSummary:
    """Read a model, check all of it, and write the checkpoint directory; say what was left out.

    Raises UsageFault when it is not there, of no known kind, or needs an option; BadInput when it is damaged, hostile
    or computes something else than GPT-2.
    """
    source, output = Path(config.path), Path(config.output)
    if not os.path.lexists(source) and not is_openai(source):
        raise UsageFault(f"there is no {source}")
    check_new_directory(output, config.force, _OWN_FILES.__contains__, "a checkpoint")
    if output.exists() and source.exists() and source.is_dir() and output.samefile(source):
        raise UsageFault(f"{output} is what is to be imported; choose another -o")
    kind = config.kind or detect_kind(source)
    reporter.note(f"{source}: reading it as {kind}")
    try:
        model = _read(source, kind, config.allow_pickle)
    except (IsADirectoryError, NotADirectoryError) as error:
        raise UsageFault(f"{error.filename} is not what a model of kind {kind} has there") from None
    vocabulary = _vocabulary(model, config.vocab, source, reporter)
    if model.left_out:
        reporter.note(f"left out: {model.left_out}")
    if model.caution:
        reporter.warn(model.caution)
    _write(output, kind, model, vocabulary)
    return ImportSummary(kind, model.shape, output)


def detect_kind(path: Path) -> str:
    """Return which of KINDS a path holds, by its files or its first bytes; UsageFault when none is seen."""
    if path.is_dir():
        if (path / CONFIG).is_file():
            return "huggingface"
        if is_openai(path):
            return "openai"
        if (path / "ckpt.pt").is_file():
            return "nanogpt"
        if (path / "checkpoints").is_dir():
            raise UsageFault(f"{path} is a run of gpt2's own, a MODEL as it is; there is nothing to import")
        raise UsageFault(f"{path} holds no {CONFIG}, hparams.json, *.index or ckpt.pt; name its kind with --from")
    if is_openai(path):
        return "openai"
    with open_named(path) as file:
        start = file.read(16)
    if is_llmc(start):
        return "llm.c"
    if path.name.startswith(PICKLED.removesuffix(".bin")) or path.suffix == ".safetensors":
        raise UsageFault(f"{path} needs the {CONFIG} beside it; name the directory, {path.parent}")
    if is_pickle(start):
        return "nanogpt"
    raise UsageFault(f"{path} is none of {', '.join(KINDS)} by its first bytes; name its kind with --from")


def _read(path: Path, kind: str, allow_pickle: bool) -> ForeignModel:
    if kind == "openai":
        return read_openai(path)
    if kind == "huggingface":
        return read_huggingface(path, allow_pickle)
    if kind == "llm.c":
        return read_llmc(path)
    if kind == "nanogpt":
        return read_nanogpt(path, allow_pickle)
    raise UsageFault(f"there is no kind {kind!r} to import; kinds are {', '.join(KINDS)}")


def _vocabulary(model: ForeignModel, vocab: str | None, source: Path, reporter: Reporter) -> Vocabulary:
    if vocab is not None:
        vocabulary = load_vocabulary(vocab)
    elif model.vocabulary is not None:
        vocabulary = model.vocabulary
    else:
        vocabulary = padded_gpt2_vocabulary(model.shape.n_vocab, str(source))
        reporter.note(f"{source} carries no vocabulary; GPT-2's own is taken")
    if vocabulary.n_vocab > model.shape.n_vocab:
        raise BadInput(f"the vocabulary of {source} has {vocabulary.n_vocab:,} ids, its model only "
                       f"{model.shape.n_vocab:,}")
    return vocabulary


def _write(output: Path, kind: str, model: ForeignModel, vocabulary: Vocabulary) -> None:
    digests = {file.name: file_sha256(file) for file in model.sources}
    with atomic_directory(os.path.realpath(output)) as directory:
        save_weights(model.tensors, model.shape, vocabulary.eot, directory)
        write_tokenizer_files(vocabulary, directory, model.shape.n_ctx)
        fields = {"run": None, "step": None, "tokens": None, "imported": {"from": kind, "sha256": digests}}
        write_manifest(directory, "gpt2.checkpoint", fields, list_files(directory))
