"""No step makes a weight that is not finite: a bound on all of them, kept by arithmetic on a few numbers.

Adam's update of a weight is at most lr / (1 - beta1) * |m| / eps, with |m| no more than the largest gradient so far,
and decay multiplies by 1 - lr * decay. The bound that follows is absurdly wide, and all the same any sane run stays
below fp32's largest number for ever. Where it does not, the weights are looked at and the bound begins there.
"""

from __future__ import annotations

import math

import torch

from gpt2cli.model.gpt2 import GPT2
from gpt2cli.training.config import TrainConfig
from gpt2cli.training.optimizer import ADAM_EPS, AdamW, held_here
from gpt2cli.training.ranks import Ranks

LARGEST = 3.3e38
"""Below the largest bf16 (3.3895e38) and fp32 (3.4028e38)."""
_ROUNDED = 1.02
"""More than bf16 rounds up a moment, a half of a weight, or a gradient whose norm was clipped."""


class WeightBound:
    """What no weight and no first moment exceeds, on any rank. Knows nothing until it first has to look."""

    def __init__(self, config: TrainConfig) -> None:
        self._config = config
        self.forget()

    def forget(self) -> None:
        """Hold nothing for known: weights or moments are others now."""
        self._weight = self._moment = math.inf

    def allows(self, model: GPT2, optimizer: AdamW, lr: float, grad_norm: float, ranks: Ranks) -> bool:
        """Whether the optimizer's next step surely leaves every number finite; the same on every rank.

        grad_norm: the norm of the gradient before it was clipped, finite. A step that is allowed has to be taken.
        """
        clip = self._config.clip
        gradient = _ROUNDED * (min(grad_norm, clip) if clip > 0 else grad_norm)
        if not gradient**2 < LARGEST:  # the second moment
            return False
        if self._take(lr, gradient):
            return True
        self._look(model, optimizer, ranks)
        return self._take(lr, gradient)

    def _take(self, lr: float, gradient: float) -> bool:
        moment = max(self._moment, gradient)
        update = lr / (1 - self._config.beta1) * moment / ADAM_EPS
        weight = (self._weight * max(1.0, abs(1 - lr * self._config.weight_decay)) + update) * (1 + 2**-20)
        if not weight < LARGEST:
            return False
        self._weight, self._moment = weight, moment
        return True

    def _look(self, model: GPT2, optimizer: AdamW, ranks: Ranks) -> None:
        weights = [held_here(parameter.detach()) for parameter in model.parameters()]
        moments = [moment for name, moment in optimizer.named_moments() if name.startswith("exp_avg.")]
        self._weight, self._moment = ranks.largest(
            [_ROUNDED * max((float(torch.linalg.vector_norm(tensor, math.inf, dtype=torch.float32))
                             for tensor in tensors if tensor.numel()), default=0.0)
             for tensors in (weights, moments)])
