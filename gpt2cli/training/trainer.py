"""The training loop, from a configuration to a finished run directory; kill it anywhere, run it again, same bytes."""

from __future__ import annotations

import itertools
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpt2cli.errors import BadInput, Interrupted, StoppedEarly
from gpt2cli.model.gpt2 import GPT2
from gpt2cli.records.jsonl import Record
from gpt2cli.records.run_directory import (
    CHECKPOINTS,
    METRICS,
    PERF,
    AppendLog,
    finish,
    is_finished,
    is_run,
    length_up_to_step,
    locked,
)
from gpt2cli.records.shard_set import ShardSet
from gpt2cli.reporter import Reporter
from gpt2cli.tokens.vocabulary import Vocabulary
from gpt2cli.training.batches import TrainingBatches, ValidationSet
from gpt2cli.training.branch import Branch
from gpt2cli.training.checkpointing import (
    Position,
    checkpoint_path,
    load_checkpoint,
    read_checkpoint,
    save_checkpoint,
)
from gpt2cli.training.config import TrainConfig
from gpt2cli.training.noise_scale import (
    extra_micro_batches,
    is_measured,
    measured_sequences,
    measurement,
    sequence_norm_squared,
)
from gpt2cli.training.optimizer import AdamW
from gpt2cli.training.peak_memory import peak_rss_bytes
from gpt2cli.training.run_record import agree, run_record
from gpt2cli.training.step import apply_gradient, batch_gradient, seconds_per_micro_batch
from gpt2cli.training.validation import validate


@dataclass(frozen=True)
class TrainPlan:
    """What to train, on what, where; and how to behave toward what is already there."""

    config: TrainConfig
    shards: ShardSet
    vocabulary: Vocabulary
    directory: Path
    device: torch.device
    branch: Branch | None = None
    keep: int = 2
    max_seconds: float | None = None
    override: bool = False
    force: bool = False
    copy_metrics: Callable[[bytes], None] | None = None


@dataclass(frozen=True)
class TrainSummary:
    """How a run ended. Losses in nats per token."""

    run: str
    steps: int
    val_nll: float | None
    already_done: bool


def train(plan: TrainPlan, reporter: Reporter) -> TrainSummary:
    """Train, or go on training, the run in `plan.directory` until it is done.

    Raises UsageFault when another run is there, Interrupted or StoppedEarly with its state saved, BadInput for damaged
    shards (before anything is written, or with the state saved), Gpt2Error when the numbers stop being finite.
    """
    plan.shards.check_structure()
    plan.directory.mkdir(parents=True, exist_ok=True)
    with locked(plan.directory):
        if plan.force and is_run(plan.directory):
            _clear(plan.directory)
        if plan.branch is not None and not is_run(plan.directory):
            plan.branch.check()
        fresh = run_record(plan.config, plan.shards, plan.branch)
        record = agree(plan.directory, fresh, plan.shards, plan.override)
        if is_finished(plan.directory):
            return TrainSummary(record["run"], plan.config.steps, None, True)
        return _Run(plan, record, reporter).train()


def _clear(directory: Path) -> None:
    for name in ("manifest.json", "run.json", METRICS, PERF):
        (directory / name).unlink(missing_ok=True)
    shutil.rmtree(directory / CHECKPOINTS, ignore_errors=True)


class _Run:
    """The moving parts of one run: model, optimizer, logs, and where it stands."""

    def __init__(self, plan: TrainPlan, record: Record, reporter: Reporter) -> None:
        self.plan, self.record, self.reporter, self.config = plan, record, reporter, plan.config
        self.started = time.monotonic()
        config = plan.config
        token_bytes = np.array([len(token) for token in plan.vocabulary.token_bytes()], dtype=np.int64)
        token_bytes[plan.vocabulary.eot] = 0
        self.tokens = plan.shards.open("train")
        self.batches = TrainingBatches(self.tokens, n_ctx=config.n_ctx, batch=config.batch,
                                       micro_batch=config.micro_batch, seed=config.seed, device=plan.device)
        with plan.shards.open("val") as tokens:
            self.validation = ValidationSet(tokens, n_ctx=config.n_ctx, limit=config.eval_tokens,
                                            token_bytes=token_bytes)
        self.model = GPT2(config.shape, config.dropout)
        self.model.initialise(config.seed)
        self.model.to(plan.device).train()
        self.optimizer = AdamW(self.model, config)
        position = load_checkpoint(plan.directory, self.model, self.optimizer, reporter.warn)
        self.step = position.step if position else self._begin()
        self.metrics = AppendLog(plan.directory / METRICS, position.metrics_bytes if position else 0,
                                 plan.copy_metrics)
        self.perf = AppendLog(plan.directory / PERF, length_up_to_step(plan.directory / PERF, self.step))
        if position is None or plan.override:
            self.metrics.write("gpt2.run", record)
        if position:
            self._compare_machine(position)

    def _begin(self) -> int:
        """Return the step that a new run begins after: 0, or that of the checkpoint that a branch begins with."""
        branch = self.plan.branch
        if branch is None:
            return 0
        trunk = read_checkpoint(branch.checkpoint, self.model, self.optimizer)
        if trunk.run != branch.parent_run:
            raise BadInput(f"{branch.checkpoint} is of the run {trunk.run}, not of {branch.parent_run}")
        self._compare_machine(trunk)
        return trunk.step

    def train(self) -> TrainSummary:
        """Take the remaining steps, then write the final evaluation, checkpoint and manifest."""
        config = self.config
        try:
            self._announce()
            while self.step < config.steps:
                self._take_step()
                if self.step == config.steps:
                    break
                if self.step % config.eval_every == 0:
                    self._evaluate(config.learning_rate().at(self.step)[1])
                if self.step % config.checkpoint_every == 0:
                    self._save()
                self._check_time()
            val_nll = self._evaluate(config.last_phase)
            path = self._save()
            finish(self.plan.directory, {"run": self.record["run"], "step": self.step,
                                         "tokens": self.step * config.batch_tokens}, path)
            return TrainSummary(self.record["run"], self.step, val_nll, False)
        except Interrupted:
            raise Interrupted(self._save_and_explain("stopped by a signal")) from None
        except BadInput as error:
            raise BadInput(self._save_and_explain(f"{error}; training stopped")) from None
        finally:
            self.batches.close()
            self.tokens.close()
            self.metrics.close()
            self.perf.close()

    def _take_step(self) -> None:
        config, step = self.config, self.step + 1
        lr, phase = config.learning_rate().at(step)
        start = time.perf_counter()
        sequence_squared = self._measure_noise(step) if is_measured(config, step) else None
        loss = batch_gradient(self.model, self.batches, step, config, self._inside_step)
        grad_norm = apply_gradient(self.model, self.optimizer, lr, config.clip, step, loss)
        seconds = time.perf_counter() - start
        self.step = step
        noise = {} if sequence_squared is None else measurement(config, sequence_squared, grad_norm).as_fields()
        self.metrics.write("gpt2.step", {**self._at(), "loss_nats": loss, "lr": lr, "lr_phase": phase,
                                         "grad_norm": grad_norm, **noise})
        speed = config.batch_tokens / seconds
        self.perf.write("gpt2.perf", {"run": self.record["run"], "step": step, "tokens_per_second": round(speed, 1),
                                      "step_seconds": round(seconds, 6), "peak_rss_bytes": peak_rss_bytes()})
        self.reporter.progress(step * config.batch_tokens, config.tokens, "tokens", step=f"{step}/{config.steps}",
                               loss=f"{loss:.4f}", lr=f"{lr:.2e}", tokens_per_s=f"{speed:,.0f}")

    def _measure_noise(self, step: int) -> float:
        done = itertools.count(1)

        def after_sequence() -> bool:
            self.reporter.progress(self.step * self.config.batch_tokens, self.config.tokens, "tokens",
                                   step=f"{step}/{self.config.steps}",
                                   noise=f"{next(done)}/{measured_sequences(self.config)}")
            return self.reporter.stopping()

        return sequence_norm_squared(self.model, self.batches, step, self.config, after_sequence)

    def _inside_step(self, tokens: int, loss: float) -> bool:
        done = self.step * self.config.batch_tokens + tokens
        self.reporter.progress(done, self.config.tokens, "tokens", step=f"{self.step + 1}/{self.config.steps}",
                               loss=f"{loss:.4f}")
        return self.reporter.stopping()

    def _at(self) -> dict[str, Any]:
        tokens = self.step * self.config.batch_tokens
        return {"run": self.record["run"], "step": self.step, "tokens": tokens,
                "flops": tokens * self.config.shape.train_flops_per_token()}

    def _evaluate(self, phase: str) -> float:
        fields = validate(self.model, self.validation, self.config.micro_batch, self.config.dtype, self.reporter)
        protocol = {"name": "disjoint", "context": self.config.n_ctx, "bos": False, "dtype": self.config.dtype}
        self.metrics.write("gpt2.eval", {**self._at(), "lr_phase": phase, "split": "val", **fields,
                                         "protocol": protocol, "tokenizer_sha256": self.record["tokenizer_sha256"]})
        nll = float(fields["nll_nats_per_token"])
        self.reporter.note(f"step {self.step}: validation loss {nll:.4f} nats a token, perplexity {fields['ppl']:.2f}")
        return nll

    def _save(self) -> Path:
        self.perf.sync()
        ended = self.step == self.config.steps
        position = Position(**self._at(), metrics_bytes=self.metrics.sync(),
                            threads=torch.get_num_threads(), device=self.plan.device.type,
                            torch=str(torch.__version__),
                            lr_phase=self.config.last_phase if ended else self.config.learning_rate().at(self.step)[1])
        return save_checkpoint(self.plan.directory, self.model, self.optimizer, self.plan.vocabulary, position,
                               self.plan.keep)

    def _save_and_explain(self, why: str) -> str:
        if self.step and not checkpoint_path(self.plan.directory, self.step).is_dir():
            self._save()
        return f"{why} after step {self.step} of {self.config.steps}; the same command goes on from there"

    def _check_time(self) -> None:
        if self.plan.max_seconds is not None and time.monotonic() - self.started > self.plan.max_seconds:
            raise StoppedEarly(self._save_and_explain(f"{self.plan.max_seconds:g} seconds are over"))

    def _announce(self) -> None:
        config = self.config
        if self.step:
            branch, where = self.plan.branch, "going on"
            if branch is not None and self.step == branch.parent_step:
                where = f"branching off {branch.directory}"
            self.reporter.note(f"{where} after step {self.step} of {config.steps} in {self.plan.directory}")
        if self.step >= config.steps:
            return
        count = math.ceil(config.batch / config.micro_batch)
        step_seconds = (count + extra_micro_batches(config)) * seconds_per_micro_batch(
            self.model, self.batches, config, self.step + 1)
        self.reporter.note(
            f"{config.shape.n_params:,} parameters, {config.dtype} on {self.plan.device}; a step of "
            f"{config.batch_tokens:,} tokens ({count} micro-batches of {config.micro_batch} sequences) takes about "
            f"{_duration(step_seconds)}, the {config.steps - self.step} steps about "
            f"{_duration(step_seconds * (config.steps - self.step))}"
        )

    def _compare_machine(self, position: Position) -> None:
        here = (torch.get_num_threads(), self.plan.device.type, str(torch.__version__))
        if here != (position.threads, position.device, position.torch):
            self.reporter.warn(f"bits may differ: the checkpoint was written with {position.threads} threads on "
                               f"{position.device} by torch {position.torch}, now it is {here[0]} on {here[1]} by "
                               f"{here[2]}")


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"
