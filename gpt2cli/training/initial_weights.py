"""Continued pre-training: the weights of a model directory as the beginning of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from gpt2cli.errors import UsageFault
from gpt2cli.model.weights import WEIGHTS, read_config, read_weights, weights_sha256
from gpt2cli.records.checkpoint import resolve_model
from gpt2cli.records.shard_set import ShardSet
from gpt2cli.reporter import Reporter
from gpt2cli.sizes import ModelShape
from gpt2cli.tokens.of_model import vocabulary_of_model


@dataclass(frozen=True)
class InitialWeights:
    """A model directory to begin with: its shape, and the sha256 of its weights."""

    directory: Path
    shape: ModelShape
    sha256: str

    def read(self, shape: ModelShape) -> dict[str, Tensor]:
        """Return the weights for a network of `shape`: the first positions and ids where it has fewer.

        Raises BadInput for damaged weights.
        """
        weights = read_weights(self.directory / WEIGHTS, self.shape)
        weights["wpe.weight"] = weights["wpe.weight"][: shape.n_ctx]
        weights["wte.weight"] = weights["wte.weight"][: shape.n_vocab]
        return weights


def find_initial_weights(path: str, shards: ShardSet, reporter: Reporter) -> InitialWeights:
    """Return the model that `path` (a run, a checkpoint or a Hugging Face directory) holds, if it fits the shards.

    Raises UsageFault when it has another tokenizer or fewer ids than the shards, or quantised weights; BadInput when it
    is damaged.
    """
    source = resolve_model(path, reporter.warn)
    shape, _ = read_config(source.directory)
    vocabulary = vocabulary_of_model(source.directory, shape.n_vocab, reporter)
    if vocabulary.sha256 != shards.tokenizer_sha256:
        raise UsageFault(f"the tokenizer of {source.directory} ({vocabulary.n_vocab} ids, sha256 "
                         f"{vocabulary.sha256[:12]}) is not that of {shards.directory} ({shards.n_vocab} ids, sha256 "
                         f"{shards.tokenizer_sha256[:12]}); encode the text with the model's own vocabulary")
    return InitialWeights(source.directory, shape, weights_sha256(source.directory))
