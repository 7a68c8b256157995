"""AdamW over what is kept narrow: weights in two halves, moments in bf16, gradients in bf16.

All of it is widened to fp32 a piece at a time, moved by the kernel that moves fp32 weights, and narrowed again, so that
nothing exists in fp32 as a whole. With --compile native one kernel does it all, in a tenth of the time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from gpt2cli.training.master_weights import divide, join
from gpt2cli.training.stochastic_rounding import RoundingNoise, round_into

if TYPE_CHECKING:
    from gpt2cli.model.native_kernels import NativeKernels

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

    def __init__(self, betas: tuple[float, float], eps: float, seed: int, device: torch.device,
                 kernels: NativeKernels | None = None) -> None:
        """kernels: those to move by, None: torch's."""
        self._betas, self._eps, self._kernels = betas, eps, kernels
        self._size = _PIECE_CPU if device.type == "cpu" else _PIECE_GPU
        self._noise = RoundingNoise(seed, self._size)
        self._taken = torch.zeros((), device=device)

    def move(self, part: Narrow, step: int, lr: float, weight_decay: float) -> None:
        """Take step number `step`, from 1."""
        for start in range(0, len(part.weights), self._size):
            here = slice(start, start + self._size)
            if self._kernels is not None:
                self._move_piece(self._kernels, part, start, step, lr, weight_decay)
                continue
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

    def _move_piece(self, kernels: NativeKernels, part: Narrow, start: int, step: int, lr: float,
                    weight_decay: float) -> None:
        here, (beta1, beta2) = slice(start, start + self._size), self._betas
        noise = [each for number in (0, 1) for each in self._noise.of_key(f"{step}/{part.name}/{start}/{number}")]
        weights = part.weights[here]
        kernels("adamw_narrow", weights, None if part.low is None else part.low[here], part.gradient[here],
                int(part.gradient.dtype == torch.bfloat16), part.exp_avg[here], part.exp_avg_sq[here],
                int(part.exp_avg.dtype == torch.bfloat16), self._noise.places, *noise, 1 - lr * weight_decay, 1 - beta1,
                beta2, 1 - beta2, lr / (1 - beta1**step), math.sqrt(1 - beta2**step), self._eps, len(weights))
