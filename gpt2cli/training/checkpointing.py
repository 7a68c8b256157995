"""Training state on disk and back: everything that the next step depends on, and nothing of the clock.

A checkpoint is a Hugging Face model directory; beside it `training/optimizer.safetensors` holds Adam's moments as
exp_avg.NAME and exp_avg_sq.NAME, and `training/state.json` a Position. perf.jsonl tells of the clock, so its length is
no part of it: resume cuts it after the records of that step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import safetensors
from safetensors.torch import load_file
from torch import Tensor

from gpt2cli.errors import BadInput
from gpt2cli.model.gpt2 import GPT2
from gpt2cli.model.weights import read_weights, save_weights, write_tensors
from gpt2cli.records.atomic import atomic_directory
from gpt2cli.records.checkpoint import (
    checkpoints_of,
    list_files,
    newest_verified,
    write_json,
    write_manifest,
)
from gpt2cli.records.run_directory import CHECKPOINTS
from gpt2cli.records.utf8_path import utf8_path
from gpt2cli.tokens.huggingface import write_tokenizer_files
from gpt2cli.tokens.vocabulary import Vocabulary
from gpt2cli.training.config import TrainConfig
from gpt2cli.training.optimizer import AdamW
from gpt2cli.training.position import Position, read_position
from gpt2cli.training.ranks import Ranks

OPTIMIZER = "training/optimizer.safetensors"
STATE = "training/state.json"


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
    position = read_position(path / STATE)
    optimizer.take_weights(read_weights(path / "model.safetensors", model.shape).items())
    try:
        updates = position.step if position.updates is None else position.updates
        with utf8_path(path / OPTIMIZER) as named:
            moments = load_file(named)
        if updates:
            _check_moments(moments, model, path / OPTIMIZER)
        optimizer.restore(moments, updates)
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


def _check_moments(moments: dict[str, Tensor], model: GPT2, path: Path) -> None:
    for name, parameter in model.named_parameters():
        for key in (f"exp_avg.{name}", f"exp_avg_sq.{name}"):
            moment = moments[key]
            if moment.shape != parameter.shape or not moment.is_floating_point():
                raise BadInput(f"{path}: {key} has the shape {tuple(moment.shape)} and the type {moment.dtype}; the "
                               f"model's is {tuple(parameter.shape)}")
            low, high = (float(end) for end in moment.aminmax())
            if not (math.isfinite(low) and math.isfinite(high)) or (low < 0 and key.startswith("exp_avg_sq.")):
                raise BadInput(f"{path}: {key} lies between {low:.4g} and {high:.4g}, which no step of Adam makes")
