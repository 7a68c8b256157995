"""The moving parts of one run: made of its plan, filled from its newest checkpoint, saved to the next.

Where memory runs out the micro-batch halves, on all ranks at once, and what was being computed begins again: the same
batch in smaller pieces. The rounding of its sums, and what dropout draws, are others from there on, so it is recorded:
a gpt2.run record in the metrics has the new configuration, and checkpoints say what a resumed run goes on with.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from gpt2cli.errors import BadInput, Gpt2Error, OutOfMemory
from gpt2cli.model.freed_memory import give_back_freed_memory
from gpt2cli.model.gpt2 import GPT2
from gpt2cli.records.jsonl import Record
from gpt2cli.reporter import Reporter
from gpt2cli.training.announcement import compare_machine
from gpt2cli.training.batches import TrainingBatches, ValidationSet
from gpt2cli.training.checkpointing import (
    checkpoint_path,
    load_checkpoint,
    read_checkpoint,
    restore_everywhere,
    save_checkpoint,
)
from gpt2cli.training.compiling import use_compiled
from gpt2cli.training.loss_scale import LossScale
from gpt2cli.training.optimizer import AdamW
from gpt2cli.training.plan import TrainPlan
from gpt2cli.training.position import Position
from gpt2cli.training.precision import prepare
from gpt2cli.training.retention import let_go
from gpt2cli.training.run_log import RunLog, UnwrittenLog
from gpt2cli.training.spikes import SpikeDetector
from gpt2cli.training.weight_bound import WeightBound

Result = TypeVar("Result")


class RunState:
    """Model, optimizer, batches, logs, and where the run stands."""

    def __init__(self, plan: TrainPlan, record: Record, reporter: Reporter) -> None:
        self.plan, self.record, self.reporter, self.config = plan, record, reporter, plan.config
        self.ranks = plan.ranks
        self.started = time.monotonic()
        config = plan.config
        token_bytes = np.array([len(token) for token in plan.vocabulary.token_bytes()], dtype=np.int64)
        token_bytes[plan.vocabulary.eot] = 0
        self.tokens = plan.shards.open("train")
        self.batches = self._training_batches()
        with plan.shards.open("val") as tokens:
            self.validation = ValidationSet(tokens, n_ctx=config.n_ctx, limit=config.eval_tokens,
                                            token_bytes=token_bytes)
        self.model = self.ranks.build(config, plan.device)
        prepare(self.model, config)
        self.model.separator = plan.vocabulary.eot if config.doc_mask else None
        self.model.recompute = bool(plan.recompute)
        if not self.ranks.in_step:  # a part of a model has no compiled form
            with self.ranks.together():
                use_compiled(self.model, config)
        self.optimizer = AdamW(self.model, config)
        self.spikes = SpikeDetector(config.spike_sigmas if config.on_spike else None)
        self.bound = WeightBound(config)
        self.loss_scale = LossScale(config.dtype == "fp16")
        self.log = (RunLog(plan.directory, record, config, plan.copy_metrics) if self.ranks.leader
                    else UnwrittenLog(record, config))
        position = self.restore()
        self.rollbacks: list[tuple[int, dict[str, object]]] = list(position.rollbacks or ()) if position else []
        """Those since the last regular checkpoint, as (step, fields of gpt2.spike)."""
        self.begun_at: int | None = None
        """The length of metrics.jsonl where this process last wrote the run's own record."""
        written = position.metrics_bytes if position else 0
        if not written or plan.override:
            self.begun_at = written
            self.log.begin(self.record)
        if position:
            compare_machine(position, plan.device, config, self.ranks, reporter)

    def restore(self, among: Callable[[Path], bool] = lambda path: True) -> Position | None:
        """Go to the newest sound checkpoint (its Position), or to the beginning (None), and take back what is later."""
        position, self.step = restore_everywhere(partial(self._restore_here, among), self.model, self.optimizer,
                                                 self.config, self.ranks)
        if self.model.native is not None:
            self.model.native.forget_weights()
        self.bound.forget()
        self.log.cut(position.metrics_bytes if position else 0, self.step,
                     position.metrics_sha256 if position else None)
        self.left_out = position.batches_left_out if position else 0
        self.evaluation_due = position.evaluation_due if position else False
        self.spikes.restore(position.spikes if position else None)
        self.loss_scale.restore(position.loss_scale if position else None)
        self._go_on_with(position.micro_batch if position else None)
        return position

    def _restore_here(
        self, among: Callable[[Path], bool], model: GPT2, optimizer: AdamW
    ) -> tuple[Position | None, int]:
        position = load_checkpoint(self.plan.directory, model, optimizer, self.reporter.warn, among)
        if position and position.run != self.record["run"]:
            raise BadInput(f"{self.plan.directory} is damaged: run.json names the run {self.record['run']!r}, its "
                           f"checkpoint of step {position.step} {position.run!r}; restore run.json, or --force starts "
                           "anew")
        position = position or self._begin(model, optimizer)
        return position, position.step if position else 0

    def _begin(self, model: GPT2, optimizer: AdamW) -> Position | None:
        """Go to a run's beginning: None, or where a branch begins, with no metrics of its own."""
        branch = self.plan.branch
        if branch is None:
            if self.plan.initial is None:
                optimizer.take_weights(model.initial_weights(self.config.seed))
            else:
                optimizer.take_weights(self.plan.initial.read(self.config.shape).items())
            optimizer.restore({}, 0)
            return None
        trunk = read_checkpoint(branch.checkpoint, model, optimizer)
        if trunk.run != branch.parent_run:
            raise BadInput(f"{branch.checkpoint} is of the run {trunk.run}, not of {branch.parent_run}")
        return replace(trunk, metrics_bytes=0, metrics_sha256=None, rollbacks=None,
                       evaluation_due=trunk.step == self.config.steps)

    def save(self) -> Path:
        """Write the checkpoint of this step, let go of those that are too many; return its path."""
        ended = self.step == self.config.steps
        if self.is_regular(self.step):
            self.rollbacks = []
        metrics_bytes, metrics_sha256 = self.log.sync()
        position = Position(**self.log.at(self.step), metrics_bytes=metrics_bytes, metrics_sha256=metrics_sha256,
                            threads=torch.get_num_threads(), device=self.plan.device.type,
                            torch=str(torch.__version__),
                            lr_phase=self.config.last_phase if ended else self.config.learning_rate().at(self.step)[1],
                            updates=self.optimizer.updates, batches_left_out=self.left_out,
                            rollbacks=self.rollbacks, evaluation_due=self.evaluation_due, spikes=self.spikes.state(),
                            loss_scale=self.loss_scale.state(), micro_batch=self._micro_batch(),
                            ranks=None if self.config.deterministic else self.ranks.world)
        path = checkpoint_path(self.plan.directory, self.step)
        whole = self.ranks.collect(self.model, self.optimizer, self.config)
        if whole is not None:
            save_checkpoint(self.plan.directory, *whole, self.plan.vocabulary, position)
            let_go(self.plan.directory, self.plan.keep, self.is_regular)
        return path

    def is_regular(self, step: int) -> bool:
        """Whether every run of this configuration has a checkpoint at `step`, interrupted or not."""
        return step % self.config.checkpoint_every == 0 or step == self.config.steps

    def save_and_explain(self, why: str, together: bool = True) -> str:
        """Save what is not yet saved, say where; together: all ranks do, not the leader alone."""
        where = f"{why} after step {self.step} of {self.config.steps}; the same command goes on from "
        if self.ranks.in_step and not together:
            return f"{where}its newest checkpoint"
        if self.ranks.leader or self.ranks.in_step:
            saved = self.ranks.leader and checkpoint_path(self.plan.directory, self.step).is_dir()
            if self.step and not (self.ranks.from_leader(saved) if self.ranks.in_step else saved):
                self.save()
        return f"{where}there" if self.ranks.leader else ""

    def in_memory(self, compute: Callable[[], Result]) -> Result:
        """Return compute(), which raises OutOfMemory on all ranks or none, under micro-batches that fit.

        It is called anew with each half. Raises Gpt2Error with the state saved where a single sequence does not fit.
        """
        while True:
            try:
                return compute()
            except OutOfMemory as error:
                if self.ranks.in_step:  # each rank's part was built for this micro-batch, and the others still wait
                    raise
                said = str(error)
            self._halve(said)

    def _halve(self, said: str) -> None:
        """Go on with half the micro-batch, as `said` why, and record it."""
        before = self.config.micro_batch
        if before == 1:
            self._let_go()
            raise Gpt2Error(self.save_and_explain(
                f"{said} for a micro-batch of one sequence; --activation-checkpointing, --weights bf16, --moments bf16 "
                "or a smaller model needs less; stopped"))
        self._take_micro_batch(before // 2)
        self.record = {**self.record, "config": self.config.as_record()}
        self.begun_at, _ = self.log.sync()
        self.log.begin(self.record)
        self.reporter.warn(
            f"{said} after step {self.step}: on with micro-batches of {before // 2} sequences in place of {before}; "
            "the batch is the same, but the bits are no longer those of a run that has the memory")

    def _take_micro_batch(self, size: int) -> None:
        self.config = replace(self.config, micro_batch=size)
        self._let_go()
        prepare(self.model, self.config)
        self.batches.close()
        self.batches = self._training_batches()

    def _let_go(self) -> None:
        """Free what a computation that did not end has left."""
        self.model.zero_grad(set_to_none=True)
        if self.model.native is not None:
            self.model.native.free_rooms()
        gc.collect()
        give_back_freed_memory()  # to which kernels that are made now have no way otherwise

    def _training_batches(self) -> TrainingBatches:
        config = self.config
        return TrainingBatches(self.tokens, n_ctx=config.n_ctx, batch=config.batch, micro_batch=config.micro_batch,
                               seed=config.seed, device=self.plan.device,
                               share=self.ranks.share(config.micro_batches) if self.ranks.world > 1 else None)

    def _micro_batch(self) -> dict[str, int] | None:
        """Return what a checkpoint says of a micro-batch that memory made smaller, None where it did not."""
        asked, taken = self.plan.config.micro_batch, self.config.micro_batch
        return None if asked == taken else {"asked": asked, "taken": taken}

    def _go_on_with(self, found: dict[str, int] | None) -> None:
        """Take the micro-batch that a checkpoint says, unless it is for other options, or for ranks in step."""
        if (found is not None and found["asked"] == self.plan.config.micro_batch and not self.plan.override
                and not self.ranks.in_step and found["taken"] < self.config.micro_batch):
            self._take_micro_batch(found["taken"])
            self.record = {**self.record, "config": self.config.as_record()}
