"""Micro-batches through the stages of a pipeline: many at once for a gradient (1F1B, Narayanan et al. 2021), or one.

A schedule cannot be left half way: the other stages would wait for what never comes. So a stage that is to stop idles,
passing on what it gets, and the schedule is over in no time.

Shapes: B sequences of a micro-batch, T positions, C width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from gpt2cli.errors import Interrupted
from gpt2cli.model.device import DTYPES
from gpt2cli.model.nll import sum_nll
from gpt2cli.training.config import TrainConfig
from gpt2cli.training.stages import Stage

ROUND = 8
"""Micro-batches for each stage that go through at once, at most.

torch keeps room for what each of them sends; between rounds the stages run empty, a ninth of the time at most.
"""
Rows = tuple[Tensor, Tensor]


class Pipeline:
    """This rank's stage, and what it says to its neighbours."""

    def __init__(
        self, model: Stage, config: TrainConfig, device: torch.device, group: Any, before: int, after: int,
        stop_asked: Callable[[bool], bool],
    ) -> None:
        """`group` is that of a replica's stages, the last one first; `before` and `after` are ranks among all.

        stop_asked(wish) says whether this rank or another was asked to stop, the same to all that compute together.
        """
        self.model, self._config, self._device = model, config, device
        self._group, self._before, self._after, self._stop_asked = group, before, after, stop_asked
        self._stage: Any = None
        self._schedules: dict[int, Any] = {}
        self._scale = 1.0
        self._nlls: list[float] = []

    def gradient(
        self, rows: list[Rows], scale: float, after_micro_batch: Callable[[int, float], bool]
    ) -> list[float]:
        """Add the gradient of micro-batches (inputs, targets), each (B, T), to the parameters; return their nlls.

        The last stage alone has nlls, the others an empty list. after_micro_batch and scale as in step.py. Raises
        Interrupted, on this rank at least, when one is asked to stop.
        """
        model, passed = self.model, 0
        self._scale, self._nlls = scale, []

        def note(*_: Any) -> None:
            nonlocal passed
            passed += rows[0][0].numel()
            model.idle = self._stop_asked(after_micro_batch(passed, sum(self._nlls) / passed)) or model.idle

        rounds = -(-len(rows) // (ROUND * model.stages))
        hook = model.register_forward_hook(note) if not model.last else None
        try:
            for number in range(rounds):
                self._run(rows[len(rows) * number // rounds : len(rows) * (number + 1) // rounds], note)
            if model.idle:
                raise Interrupted
            return self._nlls
        finally:
            model.idle = False
            if hook is not None:
                hook.remove()

    def one_gradient(self, inputs: Tensor, targets: Tensor, count: int, scale: float) -> Tensor:
        """Add the gradient of one micro-batch (B, T) of any size; return its nll on the last stage, 0 elsewhere."""
        model, nll = self.model, torch.zeros(())
        x = inputs if model.first else self._received(inputs).requires_grad_()
        y = model(x, inputs)
        if model.last:
            nll = self._nll(y, targets)
            (nll / (count / scale)).backward()
        else:
            dist.send(y.detach(), self._after, group=self._group)
            gradient = torch.empty_like(y)
            dist.recv(gradient, self._after, group=self._group)
            y.backward(gradient)
        if not model.first:
            assert x.grad is not None
            dist.send(x.grad, self._before, group=self._group)
        return nll.detach()

    def hidden_states(self, inputs: Iterable[Tensor], stopping: Callable[[], bool]) -> Iterator[Tensor | None]:
        """Yield what the last stage computes of each of `inputs` (B, T), None on the others; for use without gradients.

        When a rank is asked to stop, the rest is None, and Interrupted comes after it, on this rank at least.
        """
        model = self.model
        sent: tuple[Any, Tensor] | None = None
        try:
            for ids in inputs:
                model.idle = self._stop_asked(stopping()) or model.idle
                y = model(ids if model.first else self._received(ids), ids)
                if not model.last:
                    if sent is not None:
                        sent[0].wait()
                    sent = dist.isend(y, self._after, group=self._group), y
                yield y if model.last and not model.idle else None
            if sent is not None:
                sent[0].wait()
            if model.idle:
                raise Interrupted
        finally:
            model.idle = False

    def _run(self, rows: list[Rows], note: Callable[[], None]) -> None:
        """Let some micro-batches through, forward and backward."""
        inputs, targets = (torch.cat(each) for each in zip(*rows, strict=True))
        self._noted = note
        try:
            self._schedule(len(rows)).step(*((inputs,) if self.model.first else ()), target=targets,
                                           return_outputs=False, ids_BT=inputs)
        except RuntimeError as error:
            if isinstance(error.__cause__, Exception):  # torch wraps what a stage raises
                raise error.__cause__ from None
            raise

    def _loss(self, hidden_BTC: Tensor, targets_BT: Tensor) -> Tensor:
        if self.model.idle:
            return hidden_BTC.sum() * 0.0
        nll = self._nll(hidden_BTC, targets_BT)
        self._nlls.append(float(nll.detach()))
        self._noted()
        return nll / (self._config.batch_tokens / self._scale)

    def _nll(self, hidden_BTC: Tensor, targets_BT: Tensor) -> Tensor:
        return sum_nll(hidden_BTC.flatten(0, 1), self.model.wte.weight, targets_BT.flatten(),
                       DTYPES[self._config.dtype])

    def _received(self, ids_BT: Tensor) -> Tensor:
        x_BTC = torch.empty(*ids_BT.shape, self._config.n_embd, dtype=self._dtype, device=self._device)
        dist.recv(x_BTC, self._before, group=self._group)
        return x_BTC

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.model.parameters()).dtype

    def _schedule(self, count: int) -> Any:
        """Return torch's schedule of `count` micro-batches."""
        from torch.distributed.pipelining import PipelineStage, Schedule1F1B

        model = self.model
        if self._stage is None:
            B, T, C = self._config.micro_batch, self._config.n_ctx, self._config.n_embd
            ids = torch.empty(B, T, dtype=torch.int64, device="meta")
            x = torch.empty(B, T, C, dtype=self._dtype, device="meta", requires_grad=True)
            # shapes are given, or else the stages would tell each other in pickles
            self._stage = PipelineStage(model, model.number, model.stages, self._device, group=self._group,
                                        input_args=ids if model.first else x, output_args=x)
            self._stage.stage_index_to_group_rank = {stage: model.stages - 1 - stage for stage in range(model.stages)}
        if count not in self._schedules:
            self._schedules[count] = Schedule1F1B(self._stage, count, self._loss, scale_grads=False)
        return self._schedules[count]
