"""One study from end to end: read the runs, refuse what cannot be fitted, fit, resample, allocate, and report.

The report is one gpt2.fit/1 record. It carries its observations, so every later question (an optimum at another
budget, a prediction with its interval, a figure) is answered from the record alone by the same deterministic fit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gpt2cli.errors import BadInput
from gpt2cli.records.jsonl import Record
from gpt2cli.reporter import Reporter
from gpt2cli.scaling import diagnosis
from gpt2cli.scaling.allocations import allocation_record
from gpt2cli.scaling.approaches import compare_approaches
from gpt2cli.scaling.auto import Candidate, choose
from gpt2cli.scaling.design import compute, select, variables_of
from gpt2cli.scaling.envelope import CurveCollector
from gpt2cli.scaling.fit import DEFAULT_DELTA, Fit
from gpt2cli.scaling.fitted_law import AnyLaw, Setting, law_of
from gpt2cli.scaling.form_fit import fit_form
from gpt2cli.scaling.forms import Form, Variables, form_named
from gpt2cli.scaling.identification import condition_refusals, design_refusals
from gpt2cli.scaling.influence import leave_one_out
from gpt2cli.scaling.kaplan import CRITICAL_BATCH, CriticalBatch
from gpt2cli.scaling.laws import FLOPS_PER_ND
from gpt2cli.scaling.observations import COUNTS, Observations, parse_mapping, read_mapped, read_observations
from gpt2cli.scaling.rolling_origin import held_out, origins
from gpt2cli.scaling.uncertainty import FEW_CLUSTERS, Bootstrap, bootstrap_form

DEFAULT_REACH = 10.0
"""Without a budget the report allocates this many times the largest run's compute."""
DIGITS = 10
"""Significant digits of the numbers in records: more than any fit knows, fewer than a BLAS may change."""


@dataclass(frozen=True)
class FitConfig:
    """What `gpt2 fit-scaling` was asked. `flops` are budgets in FLOP; `mapping` is a --map text or None.

    `law` is a name of forms.FORMS or "auto". `unique` are the unique tokens of every run, `critical` is the critical
    batch size by which kaplan-ns counts steps.
    """

    files: tuple[str, ...]
    mapping: str | None = None
    count: str = "total"
    flops: tuple[float, ...] = ()
    resamples: int = 1000
    seed: int = 0
    delta: float = DEFAULT_DELTA
    allow_mixed: bool = False
    allow_unidentified: bool = False
    allow_undecayed: bool = False
    law: str = "chinchilla"
    unique: float | None = None
    critical: CriticalBatch = CRITICAL_BATCH


@dataclass(frozen=True)
class Report:
    """A fitted law with everything that is known about it. `warnings` are sentences, loudest first."""

    form: Form
    law: AnyLaw
    fit: Fit
    observations: Observations
    boot: Bootstrap
    found: diagnosis.Diagnosis
    warnings: tuple[str, ...]
    budgets: tuple[float, ...] = field(default=())
    approaches: Record = field(default_factory=dict)
    held_out: Record = field(default_factory=dict)
    influential: list[Record] = field(default_factory=list)
    candidates: list[Record] = field(default_factory=list)
    batch: float | None = None

    def record(self) -> Record:
        """Return the fields of the gpt2.fit/1 record."""
        seen, setting = self.observations, self.boot.setting
        names = self.form.parameters
        return rounded(
            {
                "law": self.form.name,
                "form": self.form.formula,
                "parameters": dict(zip(names, self.fit.parameters, strict=True)),
                "intervals": {name: self.boot.interval(self.boot.parameters[:, i]) for i, name in enumerate(names)},
                "level": self.boot.level,
                "count": seen.count,
                "setting": {
                    "batch_tokens": self.batch,
                    "B_star": setting.critical.B_star,
                    "alpha_B": setting.critical.alpha_B,
                    "unique_tokens": setting.unique,
                },
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
                "diagnosis": {
                    **self.found.record(),
                    "rolling_origin": self.held_out,
                    "influential": self.influential,
                },
                "candidates": self.candidates,
                "warnings": list(self.warnings),
                "allocations": [allocation_record(self.law, self.boot, budget) for budget in self.budgets],
                "approaches": self.approaches,
                "flops_per_nd_measured": _measured_k(seen),
                "tokenizer_sha256": list(seen.tokenizers),
                "val_sha256": list(seen.validation_sets),
                "observations": _rows(seen, self.fit.residuals),
            }
        )


def run_study(config: FitConfig, reporter: Reporter) -> Report:
    """Read, check, fit and resample. Raises BadInput (65) for an unidentified design unless allowed."""
    if config.law != "auto":
        form_named(config.law)
    if config.mapping is not None:
        mapping = parse_mapping(config.mapping)
        seen, curves = read_mapped(config.files, mapping, config.count, reporter), None
    else:
        curves = CurveCollector(COUNTS[config.count])
        seen = read_observations(
            config.files,
            config.count,
            reporter,
            allow_mixed=config.allow_mixed,
            allow_undecayed=config.allow_undecayed,
            watch=curves.add,
        )
    report = fit_observations(seen, config, curves)
    left = report.observations.excluded
    if left:
        reporter.note("left out: " + "; ".join(f"{why} ({number})" for why, number in left.items()))
    return report


def fit_observations(seen: Observations, config: FitConfig, curves: CurveCollector | None = None) -> Report:
    """Fit `seen`; see run_study. `curves` are the training curves of the runs, for approach 1."""
    everything = seen
    if config.unique is not None:
        seen = replace(seen, unique=np.full(len(seen.n), config.unique))
    setting = Setting(None, config.critical, _median(seen.unique))
    candidates: list[Candidate] = []
    if config.law == "auto":
        form, candidates = choose(seen, setting, config.delta)
    else:
        form = form_named(config.law)
    seen = select(form, seen)
    variables = variables_of(form, seen, setting)
    reasons = design_refusals(form, variables)
    _refuse(reasons, seen, config)
    fit = fit_form(form, variables, seen.loss, config.delta)
    if not reasons:
        reasons = condition_refusals(form, seen, setting, fit)
        _refuse(reasons, seen, config)
    boot = bootstrap_form(form, variables, seen.loss, seen.clusters, fit.parameters, resamples=config.resamples,
                          seed=config.seed, delta=config.delta, setting=setting)  # fmt: skip
    found = diagnosis.diagnose(seen.n, seen.d, fit, d_matters="d" in form.needs)
    unseen = held_out(form, seen, setting, config.delta, origins(form, seen, setting))
    budgets = config.flops or (DEFAULT_REACH * float(np.max(compute(seen))),)
    influence = leave_one_out(form, variables, seen.loss, fit.parameters, config.delta, _ahead(variables, budgets[0]))
    said = [f"NOT IDENTIFIED: {reason}" for reason in reasons] + diagnosis.warnings(found)
    said += _bootstrap_warnings(boot) + _mixture_warnings(seen, config) + influence.warnings(seen.runs)
    if not len(unseen.index):
        said.append(f"{len(seen.runs)} runs are too few to hold any out: the error of extrapolation is not known")
    law = law_of(form.name, fit.parameters, setting)
    approaches = compare_approaches(
        everything,
        budgets,
        curves=curves,
        law=law if len(form.needs) > 1 else None,
        surface=boot,
        surface_parameters=fit.parameters if form.name == "chinchilla" else None,
        resamples=config.resamples,
        seed=config.seed,
    )
    return Report(form, law, fit, seen, boot, found, tuple(said), budgets, approaches, unseen.record(seen),
                  influence.record(seen.runs, seen.clusters), [each.record() for each in candidates],
                  _median(seen.d / seen.steps) if len(seen.steps) else None)  # fmt: skip


def rounded(value: Any) -> Any:
    """Return a JSON value with every float at DIGITS significant digits and numpy numbers made plain."""
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(entry) for entry in value]
    if isinstance(value, (float, np.floating)):
        return float(f"{float(value):.{DIGITS}g}") if np.isfinite(value) else None
    return value


def _refuse(reasons: list[str], seen: Observations, config: FitConfig) -> None:
    if reasons and not config.allow_unidentified:
        raise BadInput(
            f"{_these(len(seen.runs))} not identify a scaling law: "
            + "; ".join(reasons)
            + ". --allow-unidentified shows the numbers all the same"
        )


def _ahead(variables: Variables, flops: float) -> Variables:
    """Return the point to compare predictions at: the largest N and D, both stretched to the budget; U as it is."""
    n, d = float(variables.get("n").max()), float(variables.get("d").max())
    stretch = max(0.0, (math.log(flops / FLOPS_PER_ND) - n - d) / 2)
    steps, unique = variables.s, variables.u
    return Variables(
        np.array([n + stretch]),
        np.array([d + stretch]),
        np.array([math.log(flops)]),
        None if steps is None else np.array([float(steps.max()) + stretch]),
        None if unique is None else np.array([float(np.median(unique))]),
    )


def _rows(seen: Observations, residuals: np.ndarray) -> list[Record]:
    missing = np.full(len(seen.n), np.nan)
    steps, unique = seen.steps if len(seen.steps) else missing, seen.unique if len(seen.unique) else missing
    columns = {"n": seen.n, "d": seen.d, "flops": seen.flops, "steps": steps, "unique": unique,
               "loss_nats": seen.loss, "log_residual": residuals}  # fmt: skip
    return [
        {"run": run, "cluster": int(cluster), **{name: values[i] for name, values in columns.items()}}
        for i, (run, cluster) in enumerate(zip(seen.runs, seen.clusters, strict=True))
    ]


def _median(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else None


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


def _mixture_warnings(seen: Observations, config: FitConfig) -> list[str]:
    said = [
        "evaluations before the learning rate had decayed count too: their losses lie above those of finished runs"
    ] * config.allow_undecayed
    return said + [
        f"{len(found)} different {what} are mixed: the losses are not comparable"
        for what, found in (("tokenizers", seen.tokenizers), ("validation sets", seen.validation_sets))
        if len(found) > 1
    ]
