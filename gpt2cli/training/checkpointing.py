"""Training state on disk and back: everything that the next step depends on, and nothing of the clock.

A checkpoint is a Hugging Face model directory; beside it `training/optimizer.safetensors` holds Adam's moments as
exp_avg.NAME and exp_avg_sq.NAME, and `training/state.json` the step and the length of metrics.jsonl. perf.jsonl
tells of the clock, so its length is no part of it: resume cuts it after the records of that step.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors
from safetensors.torch import load_file

from gpt2cli.errors import BadInput
from gpt2cli.model.gpt2 import GPT2
from gpt2cli.model.weights import read_weights, save_weights, write_tensors
from gpt2cli.records.atomic import atomic_directory
from gpt2cli.records.checkpoint import (
    checkpoints_of,
    list_files,
    newest_verified,
    read_json,
    write_json,
    write_manifest,
)
from gpt2cli.records.run_directory import CHECKPOINTS
from gpt2cli.tokens.huggingface import write_tokenizer_files
from gpt2cli.tokens.vocabulary import Vocabulary
from gpt2cli.training.optimizer import AdamW

OPTIMIZER = "training/optimizer.safetensors"
STATE = "training/state.json"


@dataclass(frozen=True)
class Position:
    """Where a run stands after `step` steps; metrics_bytes is the length of metrics.jsonl then.

    lr_phase is that of gpt2.step/1; checkpoints of before it was kept have none.
    """

    run: str
    step: int
    tokens: int
    flops: int
    metrics_bytes: int
    threads: int
    device: str
    torch: str
    lr_phase: str | None = None


def checkpoint_path(run: Path, step: int) -> Path:
    """Return the directory of a step's checkpoint."""
    return run / CHECKPOINTS / f"step-{step:08d}"


def save_checkpoint(
    run: Path, model: GPT2, optimizer: AdamW, vocabulary: Vocabulary, position: Position, keep: int
) -> Path:
    """Write the checkpoint of `position`, whole or not at all, drop all but the newest `keep`; return its path."""
    path = checkpoint_path(run, position.step)
    path.parent.mkdir(exist_ok=True)
    with atomic_directory(path) as directory:
        save_weights(model.state_dict(), model.shape, vocabulary.eot, directory)
        write_tokenizer_files(vocabulary, directory, model.shape.n_ctx)
        (directory / "training").mkdir()
        write_tensors(optimizer.moments(), directory / OPTIMIZER)
        write_json(directory / STATE, asdict(position))
        manifest = {"run": position.run, "step": position.step, "tokens": position.tokens, "flops": position.flops,
                    "lr_phase": position.lr_phase}
        write_manifest(directory, "gpt2.checkpoint", manifest, list_files(directory))
    for old in checkpoints_of(run)[keep:]:
        shutil.rmtree(old)
    return path


def load_checkpoint(
    run: Path, model: GPT2, optimizer: AdamW, warn: Callable[[str], None]
) -> Position | None:
    """Fill model and optimizer from the newest checkpoint whose digests hold; None when there is none.

    Raises BadInput when a verified checkpoint does not fit the model.
    """
    path = newest_verified(run, warn, weights_only=False)
    if path is None:
        return None
    return read_checkpoint(path, model, optimizer)


def read_checkpoint(path: Path, model: GPT2, optimizer: AdamW) -> Position:
    """Fill model and optimizer from one sound checkpoint; raise BadInput when it does not fit the model."""
    position = _read_position(path / STATE)
    model.load_state_dict(read_weights(path / "model.safetensors", model.shape))
    try:
        optimizer.restore(load_file(path / OPTIMIZER), position.step)
    except (KeyError, safetensors.SafetensorError) as error:
        raise BadInput(f"{path / OPTIMIZER} does not hold this model's optimizer state: {error}") from None
    return position


def _read_position(path: Path) -> Position:
    try:
        return Position(**read_json(path))
    except TypeError as error:
        raise BadInput(f"{path} does not describe a position: {error}") from None
