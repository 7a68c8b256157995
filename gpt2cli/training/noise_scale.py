"""Gradient noise measured in training: single sequences' gradients beside the whole batch's.

McCandlish et al. 2018 (arXiv 1812.06162), appendix A.1: the squared gradient norms of a small and a large batch give
unbiased |G|^2 and tr(Sigma), whose ratio is the noise scale. The small batch is always one sequence and the large one
the step's batch, so that the micro-batch, which is about memory, has no say in the measurement.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from gpt2cli.errors import BadInput, Interrupted, OutOfMemory, allocations_told
from gpt2cli.model.gpt2 import GPT2
from gpt2cli.training.batches import TrainingBatches
from gpt2cli.training.config import TrainConfig
from gpt2cli.training.ranks import ALONE, Ranks
from gpt2cli.training.step import one_gradient, seed_dropout

SEQUENCES = 16
"""Sequences of a measured step, at most, whose own gradients are taken.

Their squared norms vary by some tens of per cent, so sixteen know the mean to a tenth: no worse than a single batch
knows its own norm, and a thirty-second of the work of a default step.
"""


@dataclass(frozen=True)
class NoiseMeasurement:
    """Mean squared norms of unclipped gradients of the mean nll at two batch sizes, in tokens."""

    batch_tokens_small: int
    batch_tokens_large: int
    grad_sq_small: float
    grad_sq_large: float

    def as_fields(self) -> dict[str, float]:
        """The fields that a gpt2.step record carries."""
        return asdict(self)


def is_measured(config: TrainConfig, step: int) -> bool:
    """Return whether `step` (from 1) is one that measures the noise."""
    return config.noise_every > 0 and step % config.noise_every == 0


def measured_sequences(config: TrainConfig) -> int:
    """Return how many sequences of a measured step are computed once more, each by itself."""
    return min(SEQUENCES, config.batch)


def extra_micro_batches(config: TrainConfig) -> float:
    """Return what measuring adds to a step on average, in micro-batches of equal size."""
    return measured_sequences(config) / (config.micro_batch * config.noise_every) if config.noise_every else 0.0


def sequence_norm_squared(
    model: GPT2, batches: TrainingBatches, step: int, config: TrainConfig, after_sequence: Callable[[], bool],
    ranks: Ranks = ALONE, scale: float = 1.0,
) -> float:
    """Return the mean squared norm of the gradients of the step's first sequences, each by itself.

    The ranks divide the sequences among them. Parameters are left without a gradient, `batches` as they were.
    after_sequence() says whether to stop, which raises Interrupted, on every rank if on one. scale: the factor of
    loss_scale.py, for fp16.
    """
    count = measured_sequences(config)
    mine = ranks.alone_in(count)
    squares: dict[int, float] = {}
    fault: Interrupted | BadInput | OutOfMemory | OSError | None = None
    try:
        inputs, targets = _sequences(batches, step, mine, ranks)
        with ranks.watched(), allocations_told():
            for row, number in enumerate(mine):
                model.zero_grad(set_to_none=True)
                # its own stream: the step's masks stay what they are without a measurement
                seed_dropout(config, -step, number)
                one = slice(row, row + 1)
                one_gradient(model, inputs[one], targets[one], config, config.n_ctx, scale, ranks)
                squares[number] = ranks.one_norm_squared(model)
                if ranks.stop_asked(after_sequence()):
                    raise Interrupted
    except (Interrupted, BadInput, OutOfMemory, OSError) as error:
        fault = error
    model.zero_grad(set_to_none=True)
    in_order = ranks.settle({number: squares.get(number, 0.0) for number in ranks.share(count)}, count, fault)
    return sum(in_order) / len(in_order) / scale**2


def measurement(config: TrainConfig, sequence_squared: float, batch_norm: float) -> NoiseMeasurement:
    """Put the mean of sequence_norm_squared() beside the norm of the batch's gradient before clipping."""
    return NoiseMeasurement(config.n_ctx, config.batch_tokens, sequence_squared, batch_norm**2)


def _sequences(batches: TrainingBatches, step: int, which: range, ranks: Ranks) -> tuple[Tensor, Tensor]:
    """Return (inputs, targets) of sequences of a step, (B, T); raise on all ranks that compute together if on one."""
    fault, rows = None, (torch.empty(0), torch.empty(0))
    try:
        if which:
            rows = batches.sequences(step, which)
    except (BadInput, OSError) as error:
        fault = error
    ranks.agree(fault)
    return rows
