"""One optimizer step: gradients accumulated over micro-batches, clipped, checked, applied."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch

from gpt2cli.errors import Gpt2Error, Interrupted
from gpt2cli.model.device import DTYPES
from gpt2cli.model.gpt2 import GPT2
from gpt2cli.model.nll import sum_nll
from gpt2cli.training.batches import TrainingBatches
from gpt2cli.training.config import TrainConfig
from gpt2cli.training.optimizer import AdamW
from gpt2cli.training.precision import autocast

_DROPOUT_STREAM = 0x5DEECE66D


def micro_batch_gradient(
    model: GPT2, inputs: torch.Tensor, targets: torch.Tensor, config: TrainConfig, count: int
) -> torch.Tensor:
    """Add the gradient of one micro-batch (B, T) to the parameters; return its summed nll (scalar, nats).

    The loss is the sum over `count`, the tokens of the whole batch, so micro-batches of any size add up to its mean.
    """
    with autocast(inputs.device, config.dtype):
        hidden = model(inputs)
    nll = sum_nll(hidden.flatten(0, 1), model.wte.weight, targets.flatten(), DTYPES[config.dtype])
    (nll / count).backward()
    return nll.detach()


def seed_dropout(config: TrainConfig, stream: int) -> None:
    """Begin the dropout masks of `stream`, a step's number; a run without dropout draws none."""
    if config.dropout:
        # one stream a step: resume needs no saved generator, and the order of steps is all that matters
        torch.manual_seed((config.seed * _DROPOUT_STREAM + stream) % 2**63)


def batch_gradient(
    model: GPT2, batches: TrainingBatches, step: int, config: TrainConfig,
    after_micro_batch: Callable[[int, float], bool],
) -> float:
    """Leave the gradient of step's mean nll in the parameters; return that mean in nats.

    after_micro_batch(tokens so far, running nll) says whether to stop, which raises Interrupted.
    """
    model.zero_grad(set_to_none=True)
    seed_dropout(config, step)
    total, tokens = 0.0, 0
    for inputs, targets in batches.micro_batches(step):
        total += float(micro_batch_gradient(model, inputs, targets, config, config.batch_tokens))
        tokens += inputs.numel()
        if after_micro_batch(tokens, total / tokens):
            model.zero_grad(set_to_none=True)
            raise Interrupted
    return total / tokens


def apply_gradient(model: GPT2, optimizer: AdamW, lr: float, clip: float, step: int, loss: float) -> float:
    """Clip the gradient to norm `clip` (0: don't), take the step at `lr`, return the norm before clipping.

    Raises Gpt2Error before any weight or moment changes when the loss or the gradient is not finite.
    """
    limit = clip if clip > 0 else math.inf
    norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), limit, foreach=None))
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise Gpt2Error(f"step {step}: the loss is {loss} and the gradient norm {norm}; the weights were left as they "
                        "were. Try a lower --lr, a longer --warmup or --dtype fp32")
    optimizer.step(lr)
    return norm


def seconds_per_micro_batch(model: GPT2, batches: TrainingBatches, config: TrainConfig, step: int) -> float:
    """Time one micro-batch of `step`, forward and backward, and forget its gradient. Seconds."""
    inputs, targets = next(batches.micro_batches(step))
    start = time.perf_counter()
    micro_batch_gradient(model, inputs, targets, config, config.batch_tokens)
    if inputs.device.type == "cuda":
        torch.cuda.synchronize()
    model.zero_grad(set_to_none=True)
    return time.perf_counter() - start
