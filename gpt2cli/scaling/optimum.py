"""The best N and D of a budget C = k N D: in closed form for the Chinchilla form, by search for every other surface.

Also its inverse: the least compute that reaches a loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gpt2cli.errors import UsageFault
from gpt2cli.scaling.laws import FLOPS_PER_ND, Allocation, ChinchillaLaw, Surface

Losses = Callable[[np.ndarray, np.ndarray], Any]
"""Losses of N and D, both (P,): (P,) of one law, (R, P) of R resamples."""
_POINTS = 401
_ROUNDS = 4
_LEAST = math.log(1e-3)
"""No search goes below this many parameters or tokens."""
_LOG_BUDGETS = (math.log(1e3), math.log(1e60))


def optimum(law: Surface, flops: float, k: float = FLOPS_PER_ND) -> Allocation:
    """Return the N and D that minimise the loss subject to k N D = `flops`.

    Raises UsageFault when the law falls all the way to one end, so that it has no optimum.
    """
    if isinstance(law, ChinchillaLaw):
        return law.allocate(flops, k)
    n, loss = search(law.loss, flops, k)
    if not math.isfinite(float(n)):
        raise UsageFault(f"this law has no optimum at {flops:.3g} FLOP: its loss keeps falling towards one end")
    return Allocation(flops, float(n), flops / k / float(n), float(loss))


def search(losses: Losses, flops: float, k: float = FLOPS_PER_ND) -> tuple[np.ndarray, np.ndarray]:
    """Return (N_opt, loss) for each of R laws at once, (R,) or (): a grid in log N, refined around its lowest point.

    N is nan where the loss is lowest at an end. A minimum is flat, so N is good to about 1e-7, the loss to all digits.
    """
    span = math.log(flops / k)
    low: np.ndarray = np.array(_LEAST)
    high: np.ndarray = np.array(span - _LEAST)
    inside: np.ndarray = np.array(True)
    for turn in range(_ROUNDS):
        grid = low[..., None] + (high - low)[..., None] * np.linspace(0, 1, _POINTS)
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            value = np.asarray(losses(np.exp(grid), np.exp(span - grid)), dtype=float)
        value = np.where(np.isfinite(value), value, np.inf)
        best = value.argmin(axis=-1)
        if turn == 0:
            inside = (best > 0) & (best < _POINTS - 1)
            grid = np.broadcast_to(grid, value.shape)
        around = [np.clip(best + step, 0, _POINTS - 1)[..., None] for step in (-1, 0, 1)]
        low, middle, high = (np.take_along_axis(grid, index, -1)[..., 0] for index in around)
    return np.where(inside, np.exp(middle), np.nan), value.min(axis=-1)


def least_compute(law: Surface, loss: float, k: float = FLOPS_PER_ND) -> float | None:
    """Return the smallest budget in FLOP whose optimum reaches `loss` nats; None when no budget does."""
    low, high = _LOG_BUDGETS
    if optimum(law, math.exp(high), k).loss > loss:
        return None
    for _ in range(48):
        middle = (low + high) / 2
        low, high = (middle, high) if optimum(law, math.exp(middle), k).loss > loss else (low, middle)
    return math.exp((low + high) / 2)


def tokens_for(law: Surface, n: Any, loss: float) -> Any:
    """Return the tokens D with which `n` parameters (a number or an array) reach `loss`; infinity where none do."""
    n = np.asarray(n, dtype=float)
    low, high = np.full(n.shape, math.log(1.0)), np.full(n.shape, math.log(1e40))
    reached = np.asarray(law.loss(n, np.exp(high))) <= loss
    for _ in range(80):
        middle = (low + high) / 2
        above = np.asarray(law.loss(n, np.exp(middle))) > loss
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.where(reached, np.exp((low + high) / 2), np.inf)
