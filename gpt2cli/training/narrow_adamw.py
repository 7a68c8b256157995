"""AdamW over what is kept narrow: weights in two halves, moments in bf16, gradients in bf16.

All of it is widened to fp32 a piece at a time, moved by the kernel that moves fp32 weights, and narrowed again, so that
nothing exists in fp32 as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from gpt2cli.training.master_weights import divide, join
from gpt2cli.training.stochastic_rounding import RoundingNoise, round_into

_PIECE_CPU, _PIECE_GPU = 1 << 18, 1 << 24
"""Elements at once: what fits a core's cache, and what keeps a GPU busy."""


@dataclass(frozen=True)
class Narrow:
    """One parameter, flat and contiguous. low: the other half of bf16 weights, None where they are fp32."""

    name: str
    weights: Tensor
    low: Tensor | None
    gradient: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor


class NarrowAdamW:
    """Moves Narrow parameters as the fused kernel moves fp32 ones."""

    def __init__(self, betas: tuple[float, float], eps: float, seed: int, device: torch.device) -> None:
        self._betas, self._eps = betas, eps
        self._size = _PIECE_CPU if device.type == "cpu" else _PIECE_GPU
        self._noise = RoundingNoise(seed, self._size)
        self._taken = torch.zeros((), device=device)

    def move(self, part: Narrow, step: int, lr: float, weight_decay: float) -> None:
        """Take step number `step`, from 1."""
        for start in range(0, len(part.weights), self._size):
            here = slice(start, start + self._size)
            weights, low = part.weights[here], None if part.low is None else part.low[here]
            wide = weights if low is None else join(weights, low)
            moments = part.exp_avg[here], part.exp_avg_sq[here]
            exp_avg, exp_avg_sq = (moment.float() for moment in moments)
            adamw([wide], [part.gradient[here].float()], [exp_avg], [exp_avg_sq], [], [self._taken.fill_(step - 1)],
                  fused=True, amsgrad=False, beta1=self._betas[0], beta2=self._betas[1], lr=lr,
                  weight_decay=weight_decay, eps=self._eps, maximize=False)
            if low is not None:
                divide(wide, weights, low)
            for number, (moment, moved) in enumerate(zip(moments, (exp_avg, exp_avg_sq), strict=True)):
                if moment.dtype != torch.float32:
                    noise = self._noise.draw(f"{step}/{part.name}/{start}/{number}", moved)
                    round_into(moment, moved, noise)
