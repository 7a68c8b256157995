"""A model made ready to run: found, checked, loaded, with its vocabulary.

Finding it reads its shape alone, so that options which do not fit it are refused before its weights are read.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from gpt2cli.model.device import auto_dtype, choose_device, choose_dtype, use_threads
from gpt2cli.model.gpt2 import GPT2
from gpt2cli.model.number_range import OutOfRange
from gpt2cli.model.weights import load_model, read_config, weights_sha256
from gpt2cli.records.checkpoint import ModelSource, resolve_model
from gpt2cli.reporter import Reporter
from gpt2cli.sizes import ModelShape
from gpt2cli.tokens.encode import Encoder
from gpt2cli.tokens.of_model import vocabulary_of_model
from gpt2cli.tokens.vocabulary import Vocabulary


@dataclass(frozen=True)
class ModelChoice:
    """Which model (None: the newest run under runs/), where and in which precision; threads None: torch's choice.

    dtype: fp32, bf16, fp16 or auto, which depends on `rows`, how many positions a step computes (model/device.py).
    """

    path: str | None = None
    device: str = "auto"
    dtype: str = "fp32"
    threads: int | None = None
    rows: int = 1


@dataclass(frozen=True)
class FoundModel:
    """A model that is there, and its shape; its weights were not read yet."""

    choice: ModelChoice
    source: ModelSource
    shape: ModelShape


@dataclass(frozen=True)
class OpenModel:
    """A loaded model. `dtype` is the name it runs in: fp32, bf16, fp16, or int8 or int4 for weights used as stored."""

    source: ModelSource
    model: GPT2
    shape: ModelShape
    vocabulary: Vocabulary
    dtype: str

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder of the model's vocabulary."""
        return Encoder(self.vocabulary)

    @cached_property
    def sha256(self) -> str:
        """The hex sha256 of the weights file."""
        return weights_sha256(self.source.directory)


def open_model(choice: ModelChoice, reporter: Reporter, role: str = "") -> OpenModel:
    """Find, check and load a model, and say in one line which it is, and what for where `role` tells.

    Raises UsageFault when it or its device is not there, BadInput when it is damaged, hostile or no GPT-2.
    """
    return load_found(find_model(choice, reporter), reporter, role)


def find_model(choice: ModelChoice, reporter: Reporter) -> FoundModel:
    """Find a model and read its shape. Raises what open_model raises, but for damage to its weights."""
    choose_device(choice.device)
    if choice.dtype != "auto":
        choose_dtype(choice.dtype)
    source = resolve_model(choice.path, reporter.warn)
    return FoundModel(choice, source, read_config(source.directory)[0])


def load_found(found: FoundModel, reporter: Reporter, role: str = "") -> OpenModel:
    """Load a model that was found; see open_model."""
    choice, directory = found.choice, found.source.directory
    device = choose_device(choice.device)
    use_threads(choice.threads)
    if choice.dtype == "auto":
        dtype, why = auto_dtype(device, choice.rows), ", by --dtype auto"
    else:
        dtype, why = choice.dtype, ""
    try:
        loaded = load_model(directory, device=device, dtype=choose_dtype(dtype), prefer_integer=choice.dtype == "auto")
    except OutOfRange:
        if choice.dtype != "auto":
            raise
        why, dtype = f"{why}, too large for {dtype}", "fp32"
        loaded = load_model(directory, device=device, dtype=choose_dtype(dtype), prefer_integer=True)
    if loaded.integer and loaded.quantisation is not None:
        dtype, why = loaded.quantisation.name, ", by --dtype auto"
    vocabulary = vocabulary_of_model(directory, loaded.shape.n_vocab, reporter)
    reporter.note(f"{role and f'{role}, '}{directory}: {loaded.shape.n_params:,} parameters, {dtype} on {device}{why}")
    return OpenModel(found.source, loaded.model, loaded.shape, vocabulary, dtype)
