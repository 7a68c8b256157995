"""Runs beside what a law foretold of them: the prediction, how far one run may lie from it, and the measured loss.

The interval of a law tells where the surface may lie. A single run lies about the surface, and a surface that is
asked beyond its runs errs: how much, the fit has seen when runs were held out of it (rolling_origin.py). A run's
interval is both together, in quadrature of the logarithms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.records.jsonl import Record
from gpt2cli.scaling.answers import of_n_and_d
from gpt2cli.scaling.fitted_law import law_losses
from gpt2cli.scaling.forms import form_named
from gpt2cli.scaling.kaplan import KaplanStepsLaw
from gpt2cli.scaling.observations import Observations
from gpt2cli.scaling.saved import KnownLaw

NORMAL_95 = 1.959963984540054


@dataclass(frozen=True)
class Foretold:
    """One finished run: nats a token foretold and measured, with 95 % intervals of the law and of one run.

    fitted: the run is one that the law was fitted to, so it tests nothing.
    """

    run: str
    n: float
    d: float
    measured: float
    predicted: float
    law_interval: tuple[float, float] | None
    run_interval: tuple[float, float] | None
    fitted: bool

    @property
    def error(self) -> float:
        """Predicted over measured, less 1."""
        return self.predicted / self.measured - 1

    @property
    def inside(self) -> bool | None:
        """Whether the measured loss lies in the run's interval; None without one."""
        if self.run_interval is None:
            return None
        return self.run_interval[0] <= self.measured <= self.run_interval[1]


def run_error(fit: Record) -> float | None:
    """Return the rms log error of a gpt2.fit record's law on one run: of those held out, else its residuals' spread.

    None when the record has neither; raises BadInput for a damaged one.
    """
    try:
        diagnosis = fit.get("diagnosis") or {}
        unseen = (diagnosis.get("rolling_origin") or {}).get("rms_log_error")
        residual = diagnosis.get("rms_log_residual")
        if unseen is not None or residual is None:
            spread = None if unseen is None else float(unseen)
        else:
            seen = float(diagnosis["n_observations"])
            free = max(1.0, seen - float(diagnosis["n_parameters"]))
            spread = float(residual) * math.sqrt(seen / free)
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError):
        raise BadInput("the fit's diagnosis is damaged") from None
    if spread is not None and not 0 <= spread < 10:
        raise BadInput("the fit's diagnosis is damaged: its errors are no small numbers")
    return spread


def check_comparable(fit: Record, seen: Observations) -> None:
    """Raise BadInput when the runs have another tokenizer or validation set than those of the fit."""
    for key, what, theirs in (("tokenizer_sha256", "tokenizer", seen.tokenizers),
                              ("val_sha256", "validation set", seen.validation_sets)):  # fmt: skip
        ours = fit.get(key)
        if isinstance(ours, list) and ours and not set(theirs) <= {str(one) for one in ours}:
            raise BadInput(f"the runs have another {what} than those that the law was fitted to: their losses cannot "
                           "be compared with it")  # fmt: skip


def foretell(known: KnownLaw, seen: Observations, error: float | None, fitted: frozenset[str]) -> list[Foretold]:
    """Return every run of `seen` beside the law, in the order of their N and D.

    error: rms log error of one run (run_error; None: no interval of a run). fitted: names of the runs of the fit.
    """
    found = []
    for i in np.lexsort((seen.d, seen.n)):
        predicted, draws = _losses(known, seen, int(i))
        of_law = None if known.boot is None else known.boot.interval(draws)
        of_run = None if of_law is None or error is None else _widened(predicted, of_law, error)
        found.append(Foretold(seen.runs[i], float(seen.n[i]), float(seen.d[i]), float(seen.loss[i]), predicted, of_law,
                              of_run, seen.runs[i] in fitted))  # fmt: skip
    return found


def _losses(known: KnownLaw, seen: Observations, i: int) -> tuple[float, np.ndarray]:
    """Return the loss foretold for run `i`, and that of every resample (R,)."""
    n, d = float(seen.n[i]), float(seen.d[i])
    boot = known.boot
    if isinstance(known.law, KaplanStepsLaw):
        if not len(seen.steps) or not seen.steps[i] > 0:
            raise UsageFault(f"{known.name} predicts by steps, and run {seen.runs[i]!r} tells none")
        batch = d / float(seen.steps[i])
        draws = np.empty(0)
        if boot is not None:
            draws = law_losses("kaplan-ns", boot.parameters, n, d, replace(boot.setting, batch=batch))[:, 0]
        return float(known.law.at_steps(n, float(seen.steps[i]), batch)), draws
    surface = known.law if boot is not None and len(form_named(boot.law).needs) == 1 else of_n_and_d(known)
    return float(surface.loss(n, d)), np.empty(0) if boot is None else boot.losses(n, d)[:, 0]


def _widened(predicted: float, interval: tuple[float, float], error: float) -> tuple[float, float]:
    with np.errstate(all="ignore"):
        low, high = np.hypot(np.log(np.divide(interval, predicted)), NORMAL_95 * error)
        return float(predicted * np.exp(-low)), float(predicted * np.exp(high))


def foretold_record(one: Foretold, known: KnownLaw) -> dict[str, Any]:
    """Return the fields of a gpt2.plan record of kind "run-beside-law"."""
    return {
        "law": known.name, "kind": "run-beside-law", "count": known.count, "source": known.source,
        "run": one.run, "n": one.n, "d": one.d, "flops": 6.0 * one.n * one.d, "loss_nats": one.predicted,
        "loss_nats_interval": None if one.law_interval is None else list(one.law_interval),
        "run_interval": None if one.run_interval is None else list(one.run_interval),
        "measured_nats": one.measured, "error": one.error, "inside": one.inside, "fitted": one.fitted,
    }  # fmt: skip
