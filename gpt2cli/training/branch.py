"""A decayed branch of a WSD run: several data sizes from one trunk, each at the price of its decay.

A trunk's learning rate is held after warm-up (Hu et al. 2024, 2404.06395), so from any of its checkpoints of that time
a branch can decay, and ends as a run of that length would have ended. The branch goes on with the trunk's weights,
moments, data order and step count in a run directory of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.records.checkpoint import verify_checkpoint
from gpt2cli.records.jsonl import Record
from gpt2cli.records.run_directory import is_run, read_run
from gpt2cli.records.shard_set import ShardSet
from gpt2cli.tokens.order import order_version
from gpt2cli.training.checkpointing import checkpoint_path
from gpt2cli.training.config import TrainConfig, checked_noise_every
from gpt2cli.training.recorded_config import recorded_config
from gpt2cli.training.run_record import check_tokenizer
from gpt2cli.training.schedule import WSD_DECAY_SHARE


@dataclass(frozen=True)
class Branch:
    """Where a branch begins: the trunk's directory, its run name, and the step whose checkpoint is gone on from."""

    directory: Path
    parent_run: str
    parent_step: int

    @property
    def checkpoint(self) -> Path:
        """The trunk's checkpoint."""
        return checkpoint_path(self.directory, self.parent_step)

    def check(self) -> None:
        """Raise BadInput when the checkpoint is damaged."""
        problems = verify_checkpoint(self.checkpoint)
        if problems:
            raise BadInput(f"{problems[0]}; branch off another step, or train the trunk again")


def open_branch(directory: Path, step: int, shards: ShardSet) -> tuple[Branch, TrainConfig]:
    """Return the branch that begins at `step` of the run in `directory`, and the trunk's configuration.

    Raises UsageFault when there is no such run, checkpoint or stable phase, or when `shards` are not the trunk's.
    """
    if not is_run(directory):
        raise UsageFault(f"--branch-from {directory}: there is no run in it")
    found = read_run(directory)
    check_tokenizer(directory, found, shards)
    if found.get("data_sha256") != shards.data_sha256:
        raise UsageFault(f"{shards.directory} is not what the run in {directory} was trained on; a branch goes on with "
                         "the data of its trunk")
    config = _trunk_config(directory, found)
    if config.data_order != order_version(shards.n_tokens("train"), config.n_ctx):
        raise UsageFault(f"the run in {directory} read its data in an order that this version only goes on from with "
                         "--override; a branch would not see what its trunk would have seen")
    branch = Branch(directory, str(found.get("run")), step)
    _check_step(branch, config)
    return branch, config


def branch_config(trunk: TrainConfig, step: int, decay_tokens: int | None, **changed: Any) -> TrainConfig:
    """Return a trunk's configuration with an end: `decay_tokens` after `step`, None: a fifth of the branch's tokens.

    changed: eval_every, eval_tokens, checkpoint_every, noise_every and layers_every where they are not the trunk's.
    """
    if decay_tokens == 0:
        raise UsageFault("a branch is there to decay; give --decay-tokens more than 0")
    checked_noise_every(changed.get("noise_every", 0), trunk.batch_tokens, trunk.n_ctx)
    default = round(step * WSD_DECAY_SHARE / (1 - WSD_DECAY_SHARE))
    decay = max(1, default if decay_tokens is None else math.ceil(decay_tokens / trunk.batch_tokens))
    return replace(trunk, steps=step + decay, decay_steps=decay, **changed)


def _trunk_config(directory: Path, found: Record) -> TrainConfig:
    try:
        return TrainConfig(**recorded_config(directory, found))
    except TypeError:
        raise BadInput(f"{directory}: run.json does not hold the configuration of a run of this version") from None


def _check_step(branch: Branch, config: TrainConfig) -> None:
    if config.schedule != "wsd":
        raise UsageFault(f"the run in {branch.directory} has a {config.schedule} schedule, which decays from the "
                         "start; only a run of --schedule wsd has a trunk to branch from")
    phase = config.learning_rate().at(branch.parent_step)[1] if 1 <= branch.parent_step <= config.steps else None
    if phase != "stable":
        first, last = config.warmup_steps + 1, config.steps - (config.decay_steps or 0)
        raise UsageFault(f"--at {branch.parent_step}: the rate of the run in {branch.directory} is held from step "
                         f"{first} to {last}; choose one of them")
    if not branch.checkpoint.is_dir():
        kept = sorted(path.name.removeprefix("step-").lstrip("0") for path in branch.checkpoint.parent.glob("step-*"))
        have = f"it keeps those of steps {', '.join(sorted(kept, key=int))}" if kept else "it has none"
        raise UsageFault(f"the run in {branch.directory} has no checkpoint of step {branch.parent_step}: {have}; "
                         "train it with --checkpoint-every and a --keep that keep it")
