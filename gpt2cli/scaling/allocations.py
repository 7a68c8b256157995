"""What a law says of one budget or one run, with the intervals of its resamples, as JSON values of records."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpt2cli.scaling.fitted_law import AnyLaw, FittedLaw
from gpt2cli.scaling.forms import form_named
from gpt2cli.scaling.laws import FLOPS_PER_ND, ChinchillaLaw, allocate
from gpt2cli.scaling.optimum import search
from gpt2cli.scaling.uncertainty import Bootstrap


def allocation_record(law: AnyLaw, boot: Bootstrap | None, flops: float) -> dict[str, Any]:
    """Return the compute-optimal N, D and loss at `flops` with their intervals (None: unbounded, or no optimum).

    In closed form for Chinchilla's form, by search for the others. A law of C alone knows only the loss, one of N or
    D alone nothing of a budget.
    """
    points, spread = _optima(law, boot, flops)
    out: dict[str, Any] = {"flops": flops, **{name: finite(float(value)) for name, value in points.items()}}
    if boot is not None:
        for name in ("n_opt", "d_opt", "loss_nats"):
            values = spread.get(name)
            interval = None if values is None else boot.interval(np.nan_to_num(values, nan=np.inf, posinf=np.inf))
            out[f"{name}_interval"] = None if interval is None else [finite(end) for end in interval]
    return out


def prediction_record(law: Any, boot: Bootstrap | None, n: float, d: float) -> dict[str, Any]:
    """Return the loss predicted at `n` and `d` with its interval, as JSON values."""
    out: dict[str, Any] = {"n": n, "d": d, "loss_nats": finite(float(law.loss(n, d)))}
    if boot is not None:
        interval = boot.interval(boot.losses(n, d)[:, 0])
        out["loss_nats_interval"] = None if interval is None else [finite(end) for end in interval]
    return out


def finite(value: float) -> float | None:
    """Return `value`, or None where JSON has no number for it or the quantity is zero for lack of an optimum."""
    return float(value) if np.isfinite(value) and value > 0 else None


def _optima(law: AnyLaw, boot: Bootstrap | None, flops: float) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the optimum of the law and those of its resamples, each {"n_opt", "d_opt", "loss_nats"}."""
    if isinstance(law, ChinchillaLaw):
        best = law.allocate(flops)
        closed = {"n_opt": best.n_opt, "d_opt": best.d_opt, "loss_nats": best.loss}
        names = ("n_opt", "d_opt", "loss_nats")
        return closed, {} if boot is None else dict(zip(names, allocate(boot.parameters, flops), strict=True))
    if isinstance(law, FittedLaw) and len(needs := form_named(law.name).needs) == 1:
        none = {"n_opt": np.nan, "d_opt": np.nan, "loss_nats": np.nan}
        if needs != ("c",):
            return none, {}
        at = (1.0, flops / FLOPS_PER_ND)
        return {**none, "loss_nats": law.loss(*at)}, {} if boot is None else {"loss_nats": boot.losses(*at)[:, 0]}
    n, loss = search(law.loss, flops)
    point = {"n_opt": n, "d_opt": flops / FLOPS_PER_ND / n, "loss_nats": loss}
    if boot is None or not len(boot.parameters):
        return point, {}
    sizes, losses = search(boot.losses, flops)
    return point, {"n_opt": sizes, "d_opt": flops / FLOPS_PER_ND / sizes, "loss_nats": losses}
