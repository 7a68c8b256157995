"""What a known law answers: losses and optima, with the intervals of its resamples where it is a fit of ours."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from gpt2cli.errors import UsageFault
from gpt2cli.scaling.allocations import allocation_record, finite, prediction_record
from gpt2cli.scaling.data_constrained import DataConstrainedLaw
from gpt2cli.scaling.fitted_law import FittedLaw
from gpt2cli.scaling.forms import form_named
from gpt2cli.scaling.kaplan import KaplanStepsLaw, PowerLaw
from gpt2cli.scaling.laws import FLOPS_PER_ND, PUBLISHED, Surface
from gpt2cli.scaling.saved import KnownLaw


def with_unique_tokens(known: KnownLaw, unique: float | None) -> KnownLaw:
    """Return the law for data of which `unique` tokens differ; raise UsageFault for one that knows no repetition."""
    if unique is None:
        return known
    if not isinstance(known.law, DataConstrainedLaw):
        raise UsageFault(f"--unique-tokens: {known.name} knows no repeated data; muennighoff does")
    return replace(known, law=replace(known.law, unique=unique))


def at_size_and_tokens(known: KnownLaw, n: float | None, d: float | None) -> dict[str, Any]:
    """Return the fields of a prediction at `n` parameters and `d` tokens; None: without limit of the other.

    A published law with a fit in that one variable answers by it (Kaplan's Table 5).
    """
    if n is None or d is None:
        name, value = ("d", d) if n is None else ("n", n)
        alone = _separate(known, name)
        if alone is not None:
            return {"n": n, "d": d, "flops": None, "of": f"L({name.upper()})",
                    "loss_nats": finite(float(alone.value(value)))}  # fmt: skip
    only = _only_variable(known)
    if only is not None and {"n": n, "d": d, "c": None if n is None or d is None else n * d}[only] is None:
        raise UsageFault(f"{known.name} is a law of {only.upper()} alone: give --{_OPTIONS[only]}")
    with np.errstate(divide="ignore", over="ignore"):
        fields = prediction_record(known.law, known.boot, np.inf if n is None else n, np.inf if d is None else d)
    flops = FLOPS_PER_ND * n * d if n is not None and d is not None else None
    return {**fields, "n": n, "d": d, "flops": flops, "of": f"L({only.upper()})" if only else "L(N, D)"}


def at_compute(known: KnownLaw, flops: float) -> dict[str, Any]:
    """Return the fields of a prediction at a budget: Kaplan's law of C_min if there is one, else the optimum's loss."""
    alone = _separate(known, "c")
    if alone is not None:
        return {"n": None, "d": None, "flops": flops, "of": "L(C_min)", "loss_nats": finite(float(alone.value(flops)))}
    best = at_optimum(known, flops)
    kept = {key: value for key, value in best.items() if key.startswith("loss_nats")}
    return {"n": best["n_opt"], "d": best["d_opt"], "flops": flops, **kept,
            "of": "L(C) at the best N and D" if _only_variable(known) is None else "L(C)"}  # fmt: skip


def at_steps(known: KnownLaw, n: float, steps: float, batch: float) -> dict[str, Any]:
    """Return the fields of a prediction after `steps` steps of `batch` tokens; UsageFault without a law of steps."""
    if not isinstance(known.law, KaplanStepsLaw):
        raise UsageFault(f"{known.name} knows no steps, only tokens: give --d, or ask kaplan-ns")
    loss = float(known.law.at_steps(n, steps, batch))
    critical = float(known.law.critical.at(loss))
    return {"n": n, "d": steps * batch, "flops": FLOPS_PER_ND * n * steps * batch, "of": "L(N, S_min)",
            "steps": steps, "batch_tokens": batch, "s_min": steps / (1 + critical / batch),
            "critical_batch_tokens": critical, "loss_nats": finite(loss)}  # fmt: skip


def at_optimum(known: KnownLaw, flops: float) -> dict[str, Any]:
    """Return the fields of the best N and D at a budget, with intervals where the law is a fit."""
    found = allocation_record(known.law, known.boot, flops)
    if found["loss_nats"] is None:
        raise UsageFault(f"{known.name} has no optimum at {flops:.3g} FLOP: it does not know both N and D, or keeps "
                         "falling towards one end")  # fmt: skip
    return found


def _separate(known: KnownLaw, variable: str) -> PowerLaw | None:
    published = PUBLISHED.get(known.name)
    return published.separate.get(variable) if published is not None and known.boot is None else None


def of_n_and_d(known: KnownLaw) -> Surface:
    """Return the law as a surface over N and D; raise UsageFault for a fit in one variable."""
    alone = _only_variable(known)
    if alone is not None:
        raise UsageFault(f"{known.name} is a law of {alone.upper()} alone; this question needs one of N and D")
    return known.law


def _only_variable(known: KnownLaw) -> str | None:
    """Return the variable of a fit in one variable, else None."""
    needs = form_named(known.law.name).needs if isinstance(known.law, FittedLaw) else ()
    return needs[0] if len(needs) == 1 else None


_OPTIONS = {"n": "n", "d": "d", "c": "flops"}
