"""Intervals of what a fit answers to stop, compare and inference: each question asked of every resample.

Arrays have a row for each of R resamples. Where a resample has no answer (no budget, no optimum, no over-fitting) it
counts as without limit, so that an interval may be open above.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gpt2cli.scaling.allocations import finite
from gpt2cli.scaling.early_stopping import bound
from gpt2cli.scaling.inference_aware import INFERENCE_FLOPS, TRAIN_FLOPS
from gpt2cli.scaling.laws import allocate
from gpt2cli.scaling.optimum import search
from gpt2cli.scaling.strategies import Strategy
from gpt2cli.scaling.uncertainty import Bootstrap

Interval = list[float | None] | None
_BUDGETS = 81
"""Budgets at which the best losses are known exactly, over six decades below the one in question."""
_POINTS, _ROUNDS, _HALVINGS = 65, 4, 60
_LOG_TOKENS = (0.0, math.log(1e40))
_SLOPE_STEP = 1e-3


def stop_intervals(boot: Bootstrap, n: float, d: float, batch: float | None) -> dict[str, Interval]:
    """Return the intervals of an early stop's losses, gap, steps and tokens, by their names in its record."""
    with np.errstate(divide="ignore", over="ignore"):
        losses, infinite = boot.losses(n, d)[:, 0], boot.losses(n, np.inf)[:, 0]
        gap, s_min, used, steps = bound(losses, infinite, batch)
    found = {"loss_nats": losses, "loss_nats_infinite_data": infinite, "gap_nats": gap, "s_min": s_min, "steps": steps,
             "tokens": steps * used}  # fmt: skip
    return {f"{name}_interval": _interval(boot, values) for name, values in found.items()}


def strategy_intervals(boot: Bootstrap, flops: float, ways: Sequence[Strategy]) -> list[dict[str, Interval]]:
    """Return for each way to spend `flops` the intervals of its loss, of the budget for it at best, and the waste."""
    losses = boot.losses(np.array([way.n for way in ways]), np.array([way.d for way in ways]))
    budgets = np.geomspace(1e-6 * flops, flops, _BUDGETS)
    best = np.stack([best_losses(boot, float(budget)) for budget in budgets], axis=1)
    least = np.full(losses.shape, np.inf)
    for row, (targets, reached) in enumerate(zip(losses, best, strict=True)):
        if np.isfinite(reached).all():
            least[row] = np.exp(np.interp(-targets, -reached, np.log(budgets)))
    out = []
    for loss, needed in zip(losses.T, least.T, strict=True):
        wasted = np.where(np.isfinite(needed), np.maximum(0.0, 1 - needed / flops), np.inf)
        found = {"loss_nats": loss, "flops_for_same_loss": needed, "wasted": wasted}
        out.append({f"{name}_interval": _interval(boot, values) for name, values in found.items()})
    return out


def best_losses(boot: Bootstrap, flops: float) -> np.ndarray:
    """Return the loss of each resample's best N and D at `flops`, (R,); nan where it has no optimum."""
    if boot.law == "chinchilla":
        loss = np.asarray(allocate(boot.parameters, flops)[2])
        return np.where(np.isfinite(loss), loss, np.nan)
    n, loss = search(boot.losses, flops)
    return np.where(np.isfinite(n), loss, np.nan)


def losses_of_quality(boot: Bootstrap, n: float) -> np.ndarray:
    """Return each resample's loss of `n` parameters trained compute-optimally, (R,): there N and D pay alike."""
    low, high = (np.full(len(boot.parameters), end) for end in _LOG_TOKENS)
    larger, smaller = n * math.exp(_SLOPE_STEP), n * math.exp(-_SLOPE_STEP)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        gain = _rows(boot, larger, middle - _SLOPE_STEP) - _rows(boot, smaller, middle + _SLOPE_STEP)
        low, high = np.where(gain < 0, low, middle), np.where(gain < 0, middle, high)
    return _rows(boot, n, (low + high) / 2)


def losses_to_reach(boot: Bootstrap, loss: float | None, quality_of: float | None, flops: float | None) -> np.ndarray:
    """Return each resample's loss (R,) of the one of three that is given: a loss itself, a model's, a budget's."""
    if loss is not None:
        return np.full(len(boot.parameters), loss)
    return best_losses(boot, float(flops)) if flops is not None else losses_of_quality(boot, float(quality_of or 0))


def lifetime_intervals(
    boot: Bootstrap, losses: np.ndarray, inference_tokens: float, near: float
) -> dict[str, Interval]:
    """Return the intervals of the cheapest model over its life that reaches `losses` (R,), one for each resample.

    `near` is the fit's own train-optimal N, around which each resample's are looked for.
    """
    n, d, total = _cheapest(boot, losses, inference_tokens, near)
    _, _, plain = _cheapest(boot, losses, 0.0, near, count=inference_tokens)
    with np.errstate(invalid="ignore"):
        saved = np.where(np.isfinite(total), 1 - total / plain, np.inf)
    found = {"loss_nats": losses, "n": n, "d": d, "flops": total, "saved": saved}
    return {f"{name}_interval": _interval(boot, values) for name, values in found.items()}


def _cheapest(
    boot: Bootstrap, losses: np.ndarray, weighed: float, near: float, count: float | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (N, D, FLOP in all), each (R,), of what is cheapest with `weighed` tokens of use; FLOP are of `count`."""
    used = weighed if count is None else count
    low, high = (np.full(len(losses), math.log(near) + reach) for reach in (-15.0, 8.0))
    each = np.arange(len(losses))
    for _ in range(_ROUNDS):
        grid = low[:, None] + (high - low)[:, None] * np.linspace(0, 1, _POINTS)
        n = np.exp(grid)
        tokens = _tokens(boot, grid, losses)
        with np.errstate(over="ignore", invalid="ignore"):
            best = np.argmin(n * (TRAIN_FLOPS * tokens + INFERENCE_FLOPS * weighed), axis=1)
        low, high = grid[each, np.maximum(best - 1, 0)], grid[each, np.minimum(best + 1, _POINTS - 1)]
    n_best, d_best = n[each, best], tokens[each, best]
    total = n_best * (TRAIN_FLOPS * d_best + INFERENCE_FLOPS * used)
    return np.where(np.isfinite(total), n_best, np.inf), d_best, total


def _tokens(boot: Bootstrap, log_n: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """Return the tokens (R, P) with which exp(log_n) parameters (R, P) reach `losses` (R,); infinity: never."""
    if boot.law == "chinchilla":
        e, a, b, alpha, beta = (boot.parameters[:, i : i + 1] for i in range(5))
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            rest = losses[:, None] - e - a * np.exp(-alpha * log_n)
            return np.where(rest > 0, np.exp(np.log(b / np.maximum(rest, 1e-300)) / beta), np.inf)
    low, high = (np.full(log_n.shape, end) for end in _LOG_TOKENS)
    n = np.exp(log_n)
    with np.errstate(over="ignore"):
        reached = boot.losses(n, np.exp(high)) <= losses[:, None]
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            above = boot.losses(n, np.exp(middle)) > losses[:, None]
            low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.where(reached, np.exp((low + high) / 2), np.inf)


def _rows(boot: Bootstrap, n: float, log_d: np.ndarray) -> np.ndarray:
    """Return each resample's loss at `n` and its own D, (R,)."""
    return boot.losses(np.full((len(log_d), 1), n), np.exp(log_d)[:, None])[:, 0]


def _interval(boot: Bootstrap, values: np.ndarray) -> Interval:
    found = boot.interval(np.nan_to_num(values, nan=np.inf, posinf=np.inf))
    return None if found is None else [end if end == 0 else finite(end) for end in found]
