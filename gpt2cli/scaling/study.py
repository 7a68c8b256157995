"""One study from end to end: read the runs, refuse what cannot be fitted, fit, resample, allocate, and report.

The report is one gpt2.fit/1 record. It carries its observations, so every later question (an optimum at another
budget, a prediction with its interval, a figure) is answered from the record alone by the same deterministic fit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gpt2cli.errors import BadInput
from gpt2cli.records.jsonl import Record
from gpt2cli.reporter import Reporter
from gpt2cli.scaling import diagnosis
from gpt2cli.scaling.approaches import compare_approaches
from gpt2cli.scaling.envelope import CurveCollector
from gpt2cli.scaling.fit import DEFAULT_DELTA, Fit, fit_surface
from gpt2cli.scaling.laws import FLOPS_PER_ND, PARAMETERS, ChinchillaLaw, allocate, chinchilla_loss
from gpt2cli.scaling.observations import COUNTS, Observations, parse_mapping, read_mapped, read_observations
from gpt2cli.scaling.uncertainty import FEW_CLUSTERS, Bootstrap, bootstrap

DEFAULT_REACH = 10.0
"""Without a budget the report allocates this many times the largest run's compute."""
DIGITS = 10
"""Significant digits of the numbers in records: more than any fit knows, fewer than a BLAS may change."""


@dataclass(frozen=True)
class FitConfig:
    """What `gpt2 fit-scaling` was asked. `flops` are budgets in FLOP; `mapping` is a --map text or None."""

    files: tuple[str, ...]
    mapping: str | None = None
    count: str = "total"
    flops: tuple[float, ...] = ()
    resamples: int = 1000
    seed: int = 0
    delta: float = DEFAULT_DELTA
    allow_mixed: bool = False
    allow_unidentified: bool = False


@dataclass(frozen=True)
class Report:
    """A fitted law with everything that is known about it. `warnings` are sentences, loudest first."""

    law: ChinchillaLaw
    fit: Fit
    observations: Observations
    boot: Bootstrap
    found: diagnosis.Diagnosis
    warnings: tuple[str, ...]
    budgets: tuple[float, ...] = field(default=())
    approaches: Record = field(default_factory=dict)

    def record(self) -> Record:
        """Return the fields of the gpt2.fit/1 record."""
        seen = self.observations
        return rounded(
            {
                "law": "chinchilla",
                "form": self.law.form,
                "parameters": dict(zip(PARAMETERS, self.fit.parameters, strict=True)),
                "intervals": {
                    name: self.boot.interval(self.boot.parameters[:, i]) for i, name in enumerate(PARAMETERS)
                },
                "level": self.boot.level,
                "count": seen.count,
                "flops_per_nd": FLOPS_PER_ND,
                "objective": {
                    "name": "sum of Huber losses of log residuals",
                    "delta": self.fit.delta,
                    "value": self.fit.objective,
                },
                "bootstrap": {
                    "drawn": self.boot.drawn,
                    "used": len(self.boot.parameters),
                    "seed": self.boot.seed,
                    "clusters": self.boot.clusters,
                    "method": "clusters with replacement",
                },
                "n_observations": len(seen.runs),
                "excluded": seen.excluded,
                "diagnosis": self.found.record(),
                "warnings": list(self.warnings),
                "allocations": [allocation_record(self.law, self.boot, budget) for budget in self.budgets],
                "approaches": self.approaches,
                "flops_per_nd_measured": _measured_k(seen),
                "tokenizer_sha256": list(seen.tokenizers),
                "val_sha256": list(seen.validation_sets),
                "observations": [
                    {
                        "run": run,
                        "cluster": int(cluster),
                        "n": n,
                        "d": d,
                        "flops": None if np.isnan(flops) else flops,
                        "loss_nats": loss,
                        "log_residual": residual,
                    }
                    for run, cluster, n, d, flops, loss, residual in zip(
                        seen.runs, seen.clusters, seen.n, seen.d, seen.flops, seen.loss, self.fit.residuals, strict=True
                    )
                ],
            }
        )


def run_study(config: FitConfig, reporter: Reporter) -> Report:
    """Read, check, fit and resample. Raises BadInput (65) for an unidentified design unless allowed."""
    if config.mapping is not None:
        mapping = parse_mapping(config.mapping)
        seen, curves = read_mapped(config.files, mapping, config.count, reporter), None
    else:
        curves = CurveCollector(COUNTS[config.count])
        seen = read_observations(
            config.files, config.count, reporter, allow_mixed=config.allow_mixed, watch=curves.add
        )
    if seen.excluded:
        reporter.note("left out: " + "; ".join(f"{why} ({number})" for why, number in seen.excluded.items()))
    return fit_observations(seen, config, curves)


def fit_observations(seen: Observations, config: FitConfig, curves: CurveCollector | None = None) -> Report:
    """Fit `seen`; see run_study. `curves` are the training curves of the runs, for approach 1."""
    reasons = diagnosis.refusals(seen.n, seen.d)
    if reasons and not config.allow_unidentified:
        raise BadInput(
            f"{_these(len(seen.runs))} not identify a scaling law: "
            + "; ".join(reasons)
            + ". --allow-unidentified shows the numbers all the same"
        )
    fit = fit_surface(seen.n, seen.d, seen.loss, config.delta)
    boot = bootstrap(
        seen.n,
        seen.d,
        seen.loss,
        seen.clusters,
        fit.parameters,
        resamples=config.resamples,
        seed=config.seed,
        delta=config.delta,
    )
    found = diagnosis.diagnose(seen.n, seen.d, fit)
    said = [f"NOT IDENTIFIED: {reason}" for reason in reasons] + diagnosis.warnings(found)
    said += _bootstrap_warnings(boot) + _mixture_warnings(seen)
    budgets = config.flops or (DEFAULT_REACH * FLOPS_PER_ND * float(np.max(seen.n * seen.d)),)
    law = ChinchillaLaw(*(float(value) for value in fit.parameters))
    approaches = compare_approaches(
        seen,
        budgets,
        curves=curves,
        law=law,
        surface=boot,
        surface_parameters=fit.parameters,
        resamples=config.resamples,
        seed=config.seed,
    )
    return Report(law, fit, seen, boot, found, tuple(said), budgets, approaches)


def allocation_record(law: ChinchillaLaw, boot: Bootstrap | None, flops: float) -> dict[str, Any]:
    """Return the compute-optimal N, D and loss at `flops` with their intervals, as JSON values (None: unbounded)."""
    best = law.allocate(flops)
    out: dict[str, Any] = {
        "flops": flops,
        "n_opt": finite(best.n_opt),
        "d_opt": finite(best.d_opt),
        "loss_nats": finite(best.loss),
    }
    if boot is not None:
        for name, values in zip(("n_opt", "d_opt", "loss_nats"), allocate(boot.parameters, flops), strict=True):
            interval = boot.interval(np.nan_to_num(values, nan=np.inf, posinf=np.inf))
            out[f"{name}_interval"] = None if interval is None else [finite(end) for end in interval]
    return out


def prediction_record(law: Any, boot: Bootstrap | None, n: float, d: float) -> dict[str, Any]:
    """Return the loss predicted at `n` and `d` with its interval, as JSON values."""
    out: dict[str, Any] = {"n": n, "d": d, "loss_nats": finite(float(law.loss(n, d)))}
    if boot is not None:
        interval = boot.interval(chinchilla_loss(boot.parameters, n, d))
        out["loss_nats_interval"] = None if interval is None else [finite(end) for end in interval]
    return out


def finite(value: float) -> float | None:
    """Return `value`, or None where JSON has no number for it or the quantity is zero for lack of an optimum."""
    return float(value) if np.isfinite(value) and value > 0 else None


def rounded(value: Any) -> Any:
    """Return a JSON value with every float at DIGITS significant digits and numpy numbers made plain."""
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(entry) for entry in value]
    if isinstance(value, (float, np.floating)):
        return float(f"{float(value):.{DIGITS}g}") if np.isfinite(value) else None
    return value


def _these(runs: int) -> str:
    return "this one run does" if runs == 1 else f"these {runs} runs do"


def _measured_k(seen: Observations) -> float | None:
    ratios = seen.flops / (seen.n * seen.d)
    known = ratios[np.isfinite(ratios)]
    return float(np.median(known)) if known.size else None


def _bootstrap_warnings(boot: Bootstrap) -> list[str]:
    if not boot.drawn:
        return []
    said = []
    if boot.clusters < FEW_CLUSTERS:
        said.append(
            f"only {boot.clusters} independent runs (branches of one trunk count once): the intervals are rough; "
            f"{FEW_CLUSTERS} or more make them firmer"
        )
    if boot.degenerate > 0.1 * boot.drawn:
        said.append(
            f"{boot.degenerate} of {boot.drawn} resamples could not carry a fit and were dropped; "
            "more sizes and lengths make the design sturdier"
        )
    return said


def _mixture_warnings(seen: Observations) -> list[str]:
    return [
        f"{len(found)} different {what} are mixed: the losses are not comparable"
        for what, found in (("tokenizers", seen.tokenizers), ("validation sets", seen.validation_sets))
        if len(found) > 1
    ]
