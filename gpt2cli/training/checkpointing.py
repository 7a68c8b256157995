"""Training state on disk and back: everything that the next step depends on, and nothing of the clock.

A checkpoint is a Hugging Face model directory; beside it `training/optimizer.safetensors` holds Adam's moments as
exp_avg.NAME and exp_avg_sq.NAME, and `training/state.json` a Position. perf.jsonl tells of the clock, so its length is
no part of it: resume cuts it after the records of that step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

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
from gpt2cli.records.utf8_path import utf8_path
from gpt2cli.tokens.huggingface import write_tokenizer_files
from gpt2cli.tokens.vocabulary import Vocabulary
from gpt2cli.training.config import TrainConfig
from gpt2cli.training.optimizer import AdamW
from gpt2cli.training.ranks import Ranks

OPTIMIZER = "training/optimizer.safetensors"
STATE = "training/state.json"


@dataclass(frozen=True)
class Position:
    """Where a run stands after `step` steps; metrics_bytes is the length of metrics.jsonl then.

    Of the fields with defaults earlier checkpoints have none. lr_phase: that of gpt2.step/1. updates: the optimizer's
    steps, fewer than `step` where batches were left out, None for as many. batches_left_out: by how many the data order
    is ahead of the steps since a rollback. rollbacks: those since the last regular checkpoint. evaluation_due: the
    evaluation of this step is still to be written. spikes, loss_scale: what spikes.SpikeDetector and
    loss_scale.LossScale go on with. ranks: how many the bits depend on, None where any number gives the same.
    micro_batch: the sequences asked for and those taken since memory ran out, None where it did not. metrics_sha256:
    of the first metrics_bytes of metrics.jsonl.
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
    updates: int | None = None
    batches_left_out: int = 0
    rollbacks: list[Any] | None = None
    evaluation_due: bool = False
    spikes: dict[str, Any] | None = None
    loss_scale: dict[str, Any] | None = None
    ranks: int | None = None
    micro_batch: dict[str, int] | None = None
    metrics_sha256: str | None = None


def checkpoint_path(run: Path, step: int) -> Path:
    """Return the directory of a step's checkpoint."""
    return run / CHECKPOINTS / f"step-{step:08d}"


def save_checkpoint(
    run: Path, model: GPT2, optimizer: AdamW, vocabulary: Vocabulary, position: Position
) -> Path:
    """Write the checkpoint of `position`, whole or not at all; return its path."""
    path = checkpoint_path(run, position.step)
    path.parent.mkdir(exist_ok=True)
    with atomic_directory(path) as directory:
        save_weights(dict(model.named_parameters()), model.shape, vocabulary.eot, directory, optimizer.weight)
        write_tokenizer_files(vocabulary, directory, model.shape.n_ctx)
        (directory / "training").mkdir()
        write_tensors(optimizer.moments(), directory / OPTIMIZER)
        write_json(directory / STATE, asdict(position))
        manifest = {"run": position.run, "step": position.step, "tokens": position.tokens, "flops": position.flops,
                    "lr_phase": position.lr_phase}
        write_manifest(directory, "gpt2.checkpoint", manifest, list_files(directory))
    return path


def load_checkpoint(
    run: Path, model: GPT2, optimizer: AdamW, warn: Callable[[str], None],
    among: Callable[[Path], bool] = lambda path: True,
) -> Position | None:
    """Fill model and optimizer from the newest checkpoint `among` all whose digests hold; None when there is none.

    Raises BadInput when a verified checkpoint does not fit the model, or all there are are damaged.
    """
    path = newest_verified(run, warn, weights_only=False, among=among)
    if path is None:
        if any(among(found) for found in checkpoints_of(run)):
            raise BadInput(f"every checkpoint in {run} is damaged; --force starts the run anew")
        return None
    return read_checkpoint(path, model, optimizer)


def read_checkpoint(path: Path, model: GPT2, optimizer: AdamW) -> Position:
    """Fill model and optimizer from one sound checkpoint; raise BadInput when it does not fit the model."""
    position = _read_position(path / STATE)
    optimizer.take_weights(read_weights(path / "model.safetensors", model.shape).items())
    try:
        updates = position.step if position.updates is None else position.updates
        with utf8_path(path / OPTIMIZER) as named:
            optimizer.restore(load_file(named), updates)
    except (KeyError, safetensors.SafetensorError) as error:
        raise BadInput(f"{path / OPTIMIZER} does not hold this model's optimizer state: {error}") from None
    return position


def restore_everywhere(
    restore: Callable[[GPT2, AdamW], tuple[Position | None, int]], model: GPT2, optimizer: AdamW, config: TrainConfig,
    ranks: Ranks,
) -> tuple[Position | None, int]:
    """Return what restore(model, optimizer) returns on the leader; fill both on every rank with what it did there.

    So only the leader needs the run directory, and only its word counts for which checkpoint is sound.
    """
    with ranks.together():
        whole = ranks.whole(model, optimizer, config)
        position, step = restore(*whole) if whole else (None, 0)
    updates = whole[1].updates if whole else 0
    found, step, updates = ranks.from_leader((asdict(position) if position else None, step, updates))
    ranks.spread(whole, model, optimizer, updates)
    return Position(**found) if found else None, step


def _read_position(path: Path) -> Position:
    try:
        position = Position(**read_json(path))
    except TypeError as error:
        raise BadInput(f"{path} does not describe a position: {str(error)[:200]}") from None
    counts = (position.step, position.tokens, position.metrics_bytes, position.batches_left_out, position.updates or 0)
    if not all(type(count) is int and 0 <= count < 1 << 63 for count in counts):
        raise BadInput(f"{path} does not describe a position: a count in it is none")
    return position
