"""The training loop, from a configuration to a finished run directory; kill it anywhere, run it again, same bytes."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from gpt2cli.errors import (
    BadInput,
    Gpt2Error,
    Interrupted,
    IOFailure,
    OthersFailed,
    OutOfMemory,
    StoppedEarly,
    UsageFault,
    allocations_told,
    os_sentence,
)
from gpt2cli.model.freed_memory import address_space_is_limited, freed_memory_kept, freed_memory_returned
from gpt2cli.records.checkpoint import checkpoints_of
from gpt2cli.records.run_directory import finish
from gpt2cli.reporter import Reporter
from gpt2cli.training.announcement import announce
from gpt2cli.training.batch_name import batch_files, batch_name
from gpt2cli.training.checkpointing import checkpoint_path
from gpt2cli.training.gemm_probe import gemm_flops_per_second
from gpt2cli.training.layer_norms import gradient_norms, layer_fields, weights_before
from gpt2cli.training.noise_scale import (
    is_measured,
    measured_sequences,
    measurement,
    sequence_norm_squared,
)
from gpt2cli.training.plan import TrainPlan, TrainSummary, open_run
from gpt2cli.training.ranks import LostRank
from gpt2cli.training.retention import let_go, remove, step_of
from gpt2cli.training.run_state import RunState
from gpt2cli.training.spikes import MOST_ROLLBACKS, MOST_SKIPPED, Spike
from gpt2cli.training.step import batch_gradient, clip_gradient
from gpt2cli.training.step_speed import StepSpeed
from gpt2cli.training.validation import validate


def train(plan: TrainPlan, reporter: Reporter) -> TrainSummary:
    """Train, or go on training, the run in `plan.directory` until it is done.

    Raises UsageFault when another run is there, Interrupted or StoppedEarly with its state saved, BadInput for damaged
    shards (before anything is written, or with the state saved), Gpt2Error with the state saved where a spike ends it
    or a micro-batch of one sequence lacks memory, OutOfMemory where anything else does.
    """
    ranks = plan.ranks
    with contextlib.ExitStack() as held:
        with ranks.together():
            ranks.check(plan.config)
            plan.shards.check_structure()
            found = open_run(plan, held, reporter) if ranks.leader else None
        record, finished, recompute = ranks.from_leader(found)
        plan = replace(plan, recompute=recompute)
        sparing = recompute or plan.config.weights == "bf16" or address_space_is_limited()
        held.enter_context(freed_memory_returned() if sparing else freed_memory_kept())
        with ranks.together():
            if record["data_sha256"] != plan.shards.data_sha256:
                raise UsageFault(f"the shards in {plan.shards.directory} are not those of the leader")
        if finished:
            return TrainSummary(record["run"], plan.config.steps, None, True)
        try:
            with allocations_told():
                return _Run(plan, record, reporter).train()
        except LostRank:
            raise
        except OutOfMemory as error:  # of this rank alone, which has to say so itself
            where = "" if ranks.world == 1 else f"rank {ranks.rank}: "
            raise OutOfMemory(f"{where}{error}; {_what_is_left(plan.directory)}") from None
        except Gpt2Error as error:
            if ranks.leader:
                raise
            raise OthersFailed(error.status) from None


class _Run(RunState):
    """A run as it goes through its steps."""

    def train(self) -> TrainSummary:
        """Take the remaining steps, then write the final evaluation, checkpoint and manifest."""
        config = self.config
        try:
            self._announce()
            while self.step < config.steps:
                if self.evaluation_due:
                    self._evaluate(config.learning_rate().at(self.step)[1])
                if not self._take_step():
                    continue
                self.evaluation_due = self.step % config.eval_every == 0 or self.step == config.steps
                if self.step == config.steps:
                    break
                if self.evaluation_due:
                    self._evaluate(config.learning_rate().at(self.step)[1])
                if self.step % config.checkpoint_every == 0:
                    self.save()
                self._check_time()
            ended = not self.evaluation_due  # all but the manifest was there already
            val_nll = self._evaluate(config.last_phase)
            path = checkpoint_path(self.plan.directory, self.step) if ended else self.save()
            if self.ranks.leader:
                let_go(self.plan.directory, self.plan.keep, self.is_regular)  # where a kill cut that short
                finish(self.plan.directory, {"run": self.record["run"], "step": self.step,
                                             "tokens": self.step * config.batch_tokens}, path)
            return TrainSummary(self.record["run"], self.step, val_nll, False)
        except Interrupted:
            raise Interrupted(self.save_and_explain("stopped by a signal")) from None
        except LostRank as error:
            said = self.save_and_explain(str(error), together=False)
            raise LostRank((said or f"{error}; the same command goes on") if str(error) else "") from None
        except BadInput as error:
            raise BadInput(self.save_and_explain(f"{error}; training stopped", together=False)) from None
        except (OSError, IOFailure) as error:
            raise self._explain_disk(error) from None
        finally:
            self.batches.close()
            self.tokens.close()
            self.log.close()

    def _take_step(self) -> bool:
        """Take the next step; False when a spike led back to an earlier one instead."""
        config, step = self.config, self.step + 1
        batch = step + self.left_out
        lr, phase = config.learning_rate().at(step)
        start = time.perf_counter()
        measured = is_measured(config, step)
        sequence_squared = self.in_memory(lambda: self._measure_noise(batch)) if measured else None
        layers = config.layers_every > 0 and step % config.layers_every == 0
        loss, grad_norm = self._gradient(batch, layers)
        spike = self.spikes.judge(loss, grad_norm)
        if spike is not None:
            return self._meet(spike, batch)
        if not self.bound.allows(self.model, self.optimizer, lr, grad_norm, self.ranks):
            self._stop_before_infinity(lr, grad_norm)
        self.spikes.accept(loss, grad_norm)
        self.loss_scale.accept()
        before = weights_before(self.model, self.optimizer) if layers else {}
        self.optimizer.step(lr)
        self.model.zero_grad(set_to_none=True)  # an evaluation or a checkpoint needs the room
        seconds = time.perf_counter() - start
        self.step = step
        noise = {} if sequence_squared is None else measurement(config, sequence_squared, grad_norm).as_fields()
        self.log.metrics("gpt2.step", step, {"loss_nats": loss, "lr": lr, "lr_phase": phase, "grad_norm": grad_norm,
                                             **noise})
        if layers:
            fields = layer_fields(self.model, self.optimizer, before, self.layer_gradients, self.ranks)
            self.log.metrics("gpt2.layers", step, {"layers": fields})
        speed = self.speed.fields(seconds)
        self.log.perf(step, speed)
        self.reporter.progress(step * config.batch_tokens, config.tokens, "tokens", step=f"{step}/{config.steps}",
                               loss=f"{loss:.4f}", lr=f"{lr:.2e}", tokens_per_s=f"{speed['tokens_per_second']:,.0f}",
                               mfu=f"{speed['mfu']:.1%}")
        return True

    def _gradient(self, batch: int, layers: bool) -> tuple[float, float]:
        """Leave the clipped gradient of a batch, by number, in the parameters; return its loss and norm before.

        layers: keep every layer's norm as well.
        """
        while True:
            loss = self.in_memory(lambda: self._summed(batch))
            self.layer_gradients = gradient_norms(self.model, self.loss_scale.value, self.ranks) if layers else {}
            grad_norm = clip_gradient(self.model, self.config.clip, self.loss_scale.value, self.ranks)
            if math.isfinite(grad_norm) or not math.isfinite(loss) or not self.loss_scale.lower():
                return loss, grad_norm

    def _summed(self, batch: int) -> float:
        """Leave the gradient of a batch, by number, in the parameters; return its loss."""
        if not self.optimizer.updates:
            with self.ranks.memory_alike():  # what every later step has is asked of the first
                self.optimizer.make_room()
        self.first_bad: int | None = None
        return batch_gradient(self.model, self.batches, batch, self.config, self._inside_step, self.loss_scale.value,
                              self.ranks)

    def _meet(self, spike: Spike, batch: int) -> bool:
        """Deal with a batch that spikes as the policy says, nothing having changed by it; as _take_step()."""
        step, policy, config = self.step + 1, self.config.on_spike or "stop", self.config
        self.model.zero_grad(set_to_none=True)
        first, count = 0, None
        self.first_bad = self.ranks.least(self.first_bad)
        if self.first_bad is not None:  # the one micro-batch whose loss is not finite
            first = (self.first_bad // config.micro_batch) * config.micro_batch
            count = min(config.micro_batch, config.batch - first)
        files = batch_files(self.plan.shards, config.n_ctx, self.batches.windows(batch, first, count))
        found = f"step {step}: {spike.what}; its batch, {batch_name(files)}, changed no weight"
        fields: dict[str, object] = {
            "what": spike.what, "limit": spike.limit, "policy": policy, "batch": batch, "files": files,
        }
        if policy == "skip" and self.spikes.skipped < MOST_SKIPPED:
            self.spikes.skipped += 1
            self.step = step
            self.log.metrics("gpt2.spike", step, fields)
            self.reporter.warn(f"{found}; it is left out")
            return True
        if policy == "rollback" and len(self.rollbacks) < MOST_ROLLBACKS:
            self._roll_back(found, step, batch, fields)
            return False
        self._stop_at_spike(found, policy)

    def _roll_back(self, found: str, step: int, batch: int, fields: dict[str, object]) -> None:
        """Go on from the last regular checkpoint with the batches after `batch`, so that those since are left out.

        An interruption's checkpoint is passed over: where a run goes back to must not depend on when it was stopped.
        """
        position = self.restore(lambda path: self.is_regular(step_of(path)))
        for path in checkpoints_of(self.plan.directory) if self.ranks.leader else ():
            if step_of(path) > self.step:
                remove(path)
        if not position or (self.begun_at is not None and position.metrics_bytes <= self.begun_at):
            self.log.begin(self.record)
        self.left_out = batch - self.step
        self.rollbacks.append((step, fields))
        for at, each in self.rollbacks:
            self.log.metrics("gpt2.spike", at, {**each, "back_to": self.step})
        self.reporter.warn(f"{found}; going back to step {self.step}, and on with the batches after this one")

    def _stop_at_spike(self, found: str, policy: str) -> NoReturn:
        tried = {"skip": f", nor did the {MOST_SKIPPED} before it",
                 "rollback": f", and going back {MOST_ROLLBACKS} times did not help"}.get(policy, "")
        hint = "a lower --lr, a longer --warmup or --dtype fp32 may help"
        if policy == "stop":
            hint = f"--on-spike skip --override leaves it out; {hint}"
        raise Gpt2Error(self.save_and_explain(f"{found}{tried}; {hint}; stopped"))

    def _stop_before_infinity(self, lr: float, grad_norm: float) -> NoReturn:
        self.model.zero_grad(set_to_none=True)
        raise Gpt2Error(self.save_and_explain(
            f"step {self.step + 1} changed no weight: with its learning rate of {lr:.3g}, weight decay of "
            f"{self.config.weight_decay:.3g} and a gradient of norm {grad_norm:.3g} it could make a number that is not "
            "finite; a lower --lr or --weight-decay, or a --clip, may help; stopped"))

    def _measure_noise(self, batch: int) -> float:
        done = itertools.count(1)

        def after_sequence() -> bool:
            self.reporter.progress(self.step * self.config.batch_tokens, self.config.tokens, "tokens",
                                   step=f"{self.step + 1}/{self.config.steps}",
                                   noise=f"{next(done)}/{measured_sequences(self.config)}")
            return self.reporter.stopping()

        return sequence_norm_squared(self.model, self.batches, batch, self.config, after_sequence,
                                     self.ranks, self.loss_scale.value)

    def _inside_step(self, tokens: int, loss: float) -> bool:
        if self.first_bad is None and not math.isfinite(loss):
            first = self.ranks.share(self.config.micro_batches).start * self.config.micro_batch
            self.first_bad = first + tokens // self.config.n_ctx - 1
        done = self.step * self.config.batch_tokens + tokens * self.ranks.replicas
        self.reporter.progress(done, self.config.tokens, "tokens", step=f"{self.step + 1}/{self.config.steps}",
                               loss=f"{loss:.4f}")
        return self.reporter.stopping()

    def _evaluate(self, phase: str) -> float:
        fields = self.in_memory(lambda: validate(self.model, self.validation, self.config.micro_batch,
                                                 self.config.dtype, self.reporter, self.ranks))
        nll = float(fields["nll_nats_per_token"])
        if not math.isfinite(nll):
            raise Gpt2Error(self.save_and_explain(
                f"the validation loss after step {self.step} is {nll}, though no loss of a batch was: training has "
                "diverged; a lower --lr or a longer --warmup may help; stopped"))
        if self.evaluation_due:
            protocol = {"name": "disjoint", "context": self.config.n_ctx, "bos": False, "dtype": self.config.dtype,
                        **({"doc_mask": True} if self.config.doc_mask else {})}
            self.log.metrics("gpt2.eval", self.step, {
                "lr_phase": phase, "split": "val", **fields, "protocol": protocol,
                "tokenizer_sha256": self.record["tokenizer_sha256"]})
        self.evaluation_due = False
        ppl = "beyond all numbers" if fields["ppl"] is None else f"{fields['ppl']:.2f}"
        self.reporter.note(f"step {self.step}: validation loss {nll:.4f} nats a token, perplexity {ppl}")
        return nll

    def _explain_disk(self, error: OSError | IOFailure) -> IOFailure:
        """Return the failure with what is left."""
        said = os_sentence(error) if isinstance(error, OSError) else error
        return IOFailure(f"{said}; {_what_is_left(self.plan.directory)}")

    def _check_time(self) -> None:
        limit = self.plan.max_seconds
        if limit is not None and self.ranks.any(time.monotonic() - self.started > limit):
            raise StoppedEarly(self.save_and_explain(f"{self.plan.max_seconds:g} seconds are over"))

    def _announce(self) -> None:
        config = self.config
        if self.step:
            branch, where = self.plan.branch, "going on"
            if branch is not None and self.step == branch.parent_step:
                where = f"branching off {branch.directory}"
            self.reporter.note(f"{where} after step {self.step} of {config.steps} in {self.plan.directory}")
        if self.step < config.steps:
            peak = self.ranks.world * gemm_flops_per_second(self.plan.device, config.dtype)
            self.speed = StepSpeed(config, peak)
            self.in_memory(self._time_a_step)

    def _time_a_step(self) -> None:
        with self.ranks.memory_alike():
            announce(self.model, self.batches, self.config, self.step + self.left_out, self.ranks, self.reporter)


def _what_is_left(run: Path) -> str:
    """Return where the same command would go on: the newest checkpoint."""
    kept = checkpoints_of(run)
    return f"{kept[0]} is whole, and the same command goes on from it" if kept else "there is no checkpoint yet"
