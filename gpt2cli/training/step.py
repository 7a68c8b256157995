"""The gradient of a step: accumulated over micro-batches, brought back from the loss scale, clipped."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from gpt2cli.errors import BadInput, Interrupted, OutOfMemory, allocations_told
from gpt2cli.model.device import DTYPES
from gpt2cli.model.gpt2 import GPT2
from gpt2cli.model.nll import sum_nll
from gpt2cli.training.batches import TrainingBatches
from gpt2cli.training.config import TrainConfig
from gpt2cli.training.gradient_sum import tree_sum
from gpt2cli.training.precision import autocast
from gpt2cli.training.ranks import ALONE, Ranks, gradients_of

_DROPOUT_STREAM = 0x5DEECE66D
_MICRO_BATCH_STREAM = 0x9E3779B97F4A7C15 >> 20


def micro_batch_gradient(
    model: GPT2, inputs: torch.Tensor, targets: torch.Tensor, config: TrainConfig, count: int, scale: float = 1.0
) -> torch.Tensor:
    """Add the gradient of one micro-batch (B, T) to the parameters; return its summed nll (scalar, nats).

    The loss is the sum over `count`, the tokens of the whole batch, so micro-batches of any size add up to its mean.
    scale: a factor of the gradient (loss_scale.py), which clip_gradient() takes out again.
    """
    if model.native is not None:
        return model.native.add(inputs, targets, scale / count)
    with autocast(inputs.device, config.dtype, model.wte.weight.dtype):
        hidden = model(inputs)
    nll = sum_nll(hidden.flatten(0, 1), model.wte.weight, targets.flatten(), DTYPES[config.dtype])
    (nll / (count / scale)).backward()
    return nll.detach()


def one_gradient(
    model: GPT2, inputs: torch.Tensor, targets: torch.Tensor, config: TrainConfig, count: int, scale: float,
    ranks: Ranks,
) -> None:
    """Add the gradient of one micro-batch as micro_batch_gradient() does, through all stages if there are several."""
    if ranks.pipeline is None:
        micro_batch_gradient(model, inputs, targets, config, count, scale)
    else:
        ranks.pipeline.one_gradient(inputs, targets, count, scale)


def seed_dropout(config: TrainConfig, step: int, number: int) -> None:
    """Begin the dropout masks of micro-batch `number` of `step`; a run without dropout draws none."""
    if config.dropout:
        # a stream each: neither a resumed run nor another number of ranks needs a saved generator
        torch.manual_seed((config.seed * _DROPOUT_STREAM + step * _MICRO_BATCH_STREAM + number) % 2**63)


def batch_gradient(
    model: GPT2, batches: TrainingBatches, step: int, config: TrainConfig,
    after_micro_batch: Callable[[int, float], bool], scale: float = 1.0, ranks: Ranks = ALONE,
) -> float:
    """Leave the gradient of step's mean nll, times `scale`, in the parameters; return that mean in nats.

    Every rank computes the micro-batches of its share and ends with the same gradient.
    after_micro_batch(tokens so far on this rank, running nll) says whether to stop, which raises Interrupted; like
    BadInput and OSError of `batches` and OutOfMemory it is raised on every rank if on one, and no gradient is left.
    """
    micro_batches = batches.micro_batches(step)
    numbers = iter(ranks.share(config.micro_batches))
    nlls: dict[int, float] = {}
    tokens, total = 0, 0.0

    def add_next() -> None:
        nonlocal tokens, total
        number, rows, unread = next(numbers), None, None
        try:
            rows = next(micro_batches)
        except (BadInput, OSError) as error:
            unread = error
        ranks.agree(unread)
        assert rows is not None
        inputs, targets = rows
        seed_dropout(config, step, number)
        nlls[number] = float(micro_batch_gradient(model, inputs, targets, config, config.batch_tokens, scale))
        tokens, total = tokens + inputs.numel(), total + nlls[number]
        if ranks.stop_asked(after_micro_batch(tokens, total / tokens)):
            raise Interrupted

    model.zero_grad(set_to_none=True)
    try:
        with ranks.watched(), allocations_told():
            if ranks.pipeline is None:
                gradient = _own_sum(model, config, ranks, add_next)
            else:
                found = ranks.pipeline.gradient(_all_rows(micro_batches, ranks), scale, after_micro_batch)
                nlls = dict(zip(ranks.share(config.micro_batches), found, strict=False))  # none where no loss is
                gradient = list(gradients_of(model).values())
        fault = None
    except (Interrupted, BadInput, OutOfMemory, OSError) as error:
        gradient, fault = [], error
    try:
        in_order = ranks.settle(nlls, config.micro_batches, fault)
        ranks.add_up(gradient, config.deterministic)
    except BaseException:
        model.zero_grad(set_to_none=True)
        raise
    return sum(in_order) / config.batch_tokens


def _own_sum(model: GPT2, config: TrainConfig, ranks: Ranks, add_next: Callable[[], None]) -> list[Tensor]:
    """Leave the sum over this rank's micro-batches in the parameters, and return its tensors."""
    if not config.deterministic:
        for _ in ranks.share(config.micro_batches):
            add_next()
        return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]

    def leaf(number: int) -> list[Tensor]:
        model.zero_grad(set_to_none=True)
        add_next()
        return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]

    gradient = tree_sum(config.micro_batches, ranks.rank, ranks.world, leaf)
    for parameter, summed in zip(model.parameters(), gradient, strict=True):
        parameter.grad = summed
    return gradient


def _all_rows(micro_batches: Iterable[tuple[Tensor, Tensor]], ranks: Ranks) -> list[tuple[Tensor, Tensor]]:
    """Return all micro-batches of this rank; raise on all ranks if there is a fault on one."""
    rows, unread = [], None
    try:
        rows = list(micro_batches)
    except (BadInput, OSError) as error:
        unread = error
    ranks.agree(unread)
    return rows


def clip_gradient(model: GPT2, clip: float, scale: float = 1.0, ranks: Ranks = ALONE) -> float:
    """Divide the gradient by `scale`, clip it to norm `clip` (0: don't), return its norm before clipping.

    A norm that is not finite is for the caller to see before the optimizer does.
    """
    if scale != 1.0:
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(1.0 / scale)
    limit = clip if clip > 0 else math.inf
    whole = model.native.whole_gradient() if model.native is not None else None
    return ranks.clip(model, limit) if whole is None else _clip_whole(whole, limit)


def _clip_whole(gradient: Tensor, limit: float) -> float:
    """Do what torch's clip_grad_norm_ does, of one tensor in place of many: a tenth of the time of small ones."""
    norm = float(torch.linalg.vector_norm(gradient))
    if not norm <= limit:
        gradient.mul_(limit / (norm + 1e-6))
    return norm


def seconds_per_micro_batch(
    model: GPT2, batches: TrainingBatches, config: TrainConfig, step: int, ranks: Ranks = ALONE
) -> float:
    """Time one micro-batch of `step`, forward and backward, and forget its gradient. Seconds."""
    inputs, targets = next(batches.micro_batches(step))
    start = time.perf_counter()
    one_gradient(model, inputs, targets, config, config.batch_tokens, 1.0, ranks)
    if inputs.device.type == "cuda":
        torch.cuda.synchronize()
    model.zero_grad(set_to_none=True)
    return time.perf_counter() - start
