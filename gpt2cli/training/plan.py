"""What a training run is asked for, and its directory opened for it: locked, and found to hold that run or nothing."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from gpt2cli.errors import BadInput
from gpt2cli.records.checkpoint import verify_checkpoint
from gpt2cli.records.jsonl import Record
from gpt2cli.records.run_directory import CHECKPOINTS, METRICS, PERF, RUN, is_finished, is_run, locked
from gpt2cli.records.shard_set import ShardSet
from gpt2cli.records.temporaries import sweep_all
from gpt2cli.reporter import Reporter
from gpt2cli.tokens.vocabulary import Vocabulary
from gpt2cli.training.branch import Branch
from gpt2cli.training.config import TrainConfig
from gpt2cli.training.initial_weights import InitialWeights
from gpt2cli.training.memory_choice import choose_recompute
from gpt2cli.training.ranks import ALONE, Ranks
from gpt2cli.training.run_record import agree, run_record


@dataclass(frozen=True)
class TrainPlan:
    """What to train, on what, where; and how to behave toward what is already there."""

    config: TrainConfig
    shards: ShardSet
    vocabulary: Vocabulary
    directory: Path
    device: torch.device
    branch: Branch | None = None
    initial: InitialWeights | None = None
    recompute: bool | None = None
    """Whether activations are computed again; None: where there is not the memory to keep them."""
    keep: int = 2
    max_seconds: float | None = None
    override: bool = False
    force: bool = False
    copy_metrics: Callable[[bytes], None] | None = None
    ranks: Ranks = ALONE


@dataclass(frozen=True)
class TrainSummary:
    """How a run ended. Losses in nats per token."""

    run: str
    steps: int
    val_nll: float | None
    already_done: bool


def open_run(plan: TrainPlan, held: contextlib.ExitStack, reporter: Reporter) -> tuple[Record, bool, bool]:
    """Lock the run's directory for as long as `held` is.

    Return its record, whether it is finished, and whether activations are computed again (memory_choice.py). Raises
    BadInput where a finished run has lost files since, or its manifest is none; their digests are `gpt2 verify`'s.
    """
    plan.directory.mkdir(parents=True, exist_ok=True)
    held.enter_context(locked(plan.directory))
    sweep_all(plan.directory)  # a run may have been killed while it wrote its very first file
    recompute = bool(plan.recompute)
    if plan.force or not is_finished(plan.directory):
        recompute = choose_recompute(plan.config, plan.shards, plan.device, plan.ranks, plan.recompute, reporter)
    if plan.force and is_run(plan.directory):
        _clear(plan.directory)
    if plan.branch is not None and not is_run(plan.directory):
        plan.branch.check()
    fresh = run_record(plan.config, plan.shards, plan.branch)
    record, finished = agree(plan.directory, fresh, plan.shards, plan.override), is_finished(plan.directory)
    for problem in verify_checkpoint(plan.directory, sha256=None) if finished else ():
        raise BadInput(f"{problem}; this run was finished and is no longer whole: `gpt2 verify {plan.directory}` tells "
                       "more; restore it from a copy, or --force trains it anew")
    return record, finished, recompute


def _clear(directory: Path) -> None:
    (directory / "manifest.json").unlink(missing_ok=True)
    shutil.rmtree(directory / CHECKPOINTS, ignore_errors=True)
    for name in (METRICS, PERF, RUN):  # last what makes it a run, so that whoever is killed here can clear the rest
        (directory / name).unlink(missing_ok=True)
