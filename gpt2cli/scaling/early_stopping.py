"""When to stop a run on limited data: the lower bound on the early-stopping step of Kaplan et al. 2020 (eq. 5.7)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpt2cli.scaling.kaplan import ALPHA_S, CRITICAL_BATCH, S_C, tokens_against_overfitting
from gpt2cli.scaling.laws import Surface


@dataclass(frozen=True)
class Stop:
    """No earlier than `s_min` steps of a large batch (`steps` of `batch` tokens) does over-fitting ask to stop.

    `gap` is L(N, D) - L(N, infinity) in nats. `epochs` passes over D are made by then. `ample_tokens`: from this D on
    over-fitting costs little (eq. 4.4).
    """

    loss: float
    loss_infinite: float
    gap: float
    s_min: float
    batch: float
    steps: float
    tokens: float
    epochs: float
    ample_tokens: float


def early_stop(law: Surface, n: float, d: float, batch: float | None = None) -> Stop:
    """Return the bound S_stop >= S_c / [L(N, D) - L(N, inf)]^(1/alpha_S) with Table 3's S_c and alpha_S.

    It counts steps far above the critical batch size; `batch` tokens (None: B_crit at L(N, D)) take 1 + B_crit/B times
    as many (eq. 5.4).
    """
    loss, infinite = float(law.loss(n, d)), float(law.loss(n, math.inf))
    gap, s_min, used, steps = (float(value) for value in bound(loss, infinite, batch))
    return Stop(loss, infinite, gap, s_min, used, steps, steps * used, steps * used / d, tokens_against_overfitting(n))


def bound(loss: Any, infinite: Any, batch: float | None) -> tuple[Any, Any, Any, Any]:
    """Return (gap, S_min, batch in tokens, steps) of L(N, D) and L(N, infinity), numbers or arrays; see early_stop.

    Steps are infinite where there is no gap.
    """
    gap = np.asarray(loss, dtype=float) - infinite
    with np.errstate(divide="ignore"):
        s_min = S_C / np.maximum(gap, 0.0) ** (1 / ALPHA_S)
    critical = np.asarray(CRITICAL_BATCH.at(loss))
    used = critical if batch is None else np.full(critical.shape, batch)
    return gap, s_min, used, s_min * (1 + critical / used)
