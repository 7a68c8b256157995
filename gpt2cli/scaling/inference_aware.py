"""Training for a life of use: the N and D that reach a loss with the least compute, training and inference together.

Sardana et al. 2023 (arXiv 2401.00448): minimise 6 N D_train + 2 N D_inference subject to L(N, D_train) = loss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gpt2cli.errors import UsageFault
from gpt2cli.scaling.laws import Surface
from gpt2cli.scaling.optimum import least_compute, optimum, tokens_for

TRAIN_FLOPS, INFERENCE_FLOPS = 6.0, 2.0
"""FLOP for each parameter and token: forward and backward, and forward alone."""
_POINTS = 401
_ROUNDS = 7


@dataclass(frozen=True)
class Lifetime:
    """A model and what it costs over its life, in FLOP."""

    n: float
    d: float
    inference_tokens: float

    @property
    def training(self) -> float:
        """6 N D_train."""
        return TRAIN_FLOPS * self.n * self.d

    @property
    def inference(self) -> float:
        """2 N D_inference."""
        return INFERENCE_FLOPS * self.n * self.inference_tokens

    @property
    def total(self) -> float:
        """Both."""
        return self.training + self.inference


def for_life(law: Surface, loss: float, inference_tokens: float) -> tuple[Lifetime, Lifetime]:
    """Return (cheapest over its life, cheapest to train), both of which reach `loss` nats.

    Raises UsageFault for a loss that the law reaches with no budget.
    """
    budget = least_compute(law, loss)
    if budget is None:
        raise UsageFault(f"no budget reaches a loss of {loss:g} by this law: its floor is higher")
    chinchilla = optimum(law, budget)
    plain = Lifetime(chinchilla.n_opt, chinchilla.d_opt, inference_tokens)
    low, high = math.log(plain.n) - 15.0, math.log(plain.n) + 1e-6
    for _ in range(_ROUNDS):
        grid = np.linspace(low, high, _POINTS)
        n = np.exp(grid)
        with np.errstate(over="ignore", invalid="ignore"):
            total = n * (TRAIN_FLOPS * tokens_for(law, n, loss) + INFERENCE_FLOPS * inference_tokens)
        best = int(np.argmin(total))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, _POINTS - 1)]
    n_best = float(n[best])
    return Lifetime(n_best, float(tokens_for(law, n_best, loss)), inference_tokens), plain


def size_of_quality(law: Surface, n: float) -> float:
    """Return the loss of a model of `n` parameters trained compute-optimally: the quality of "a Chinchilla-N"."""
    low, high = math.log(1e3), math.log(1e60)
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if optimum(law, math.exp(middle)).n_opt < n else (low, middle)
    return optimum(law, math.exp((low + high) / 2)).loss
