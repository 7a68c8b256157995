"""Hoffmann's three ways to the optimum side by side: envelope (1), IsoFLOP profiles (2), the fitted surface (3).

Each gives N_opt = k C^a and D_opt = C / (6 N_opt). They use different parts of the runs (whole curves; equal budgets;
every final loss), so that they agree is evidence, and that they don't is a question to the design.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gpt2cli.errors import UsageFault
from gpt2cli.records.jsonl import Record
from gpt2cli.scaling import envelope, isoflop
from gpt2cli.scaling.envelope import CurveCollector, Envelope
from gpt2cli.scaling.isoflop import IsoFlop
from gpt2cli.scaling.laws import FLOPS_PER_ND, Surface, allocate
from gpt2cli.scaling.observations import Observations
from gpt2cli.scaling.optimum import optimum, search
from gpt2cli.scaling.power_line import PowerLine
from gpt2cli.scaling.uncertainty import LEVEL, Bootstrap, cluster_counts

ENVELOPE_RESAMPLES = 200
"""The envelope is read anew in each resample, so it gets fewer (the paper took 100)."""
ALIKE = 1.5
"""Optima within this factor of each other agree as well as approaches do: the loss at 1.5 N_opt is hardly higher."""


@dataclass(frozen=True)
class _Lines:
    log_coefficient: np.ndarray
    exponent: np.ndarray

    def interval(self, values: np.ndarray) -> list[float] | None:
        kept = values[np.isfinite(values)]
        if kept.size < 20:
            return None
        tail = 50 * (1 - LEVEL)
        low, high = np.percentile(kept, [tail, 100 - tail], method="inverted_cdf")
        return [float(low), float(high)]


def compare_approaches(
    seen: Observations,
    budgets: Sequence[float],
    *,
    curves: CurveCollector | None,
    law: Surface | None,
    surface: Bootstrap | None,
    surface_parameters: np.ndarray | None,
    resamples: int,
    seed: int,
) -> Record:
    """Return the field `approaches` of a gpt2.fit record: envelope, isoflop, surface, agreement.

    `curves` are those of the runs, None for foreign tables. `law` is the fitted law in N and D, None for one in N, D
    or C alone; `surface` are its resamples, `surface_parameters` (5,) None for
    other forms than Chinchilla's, whose optimum is searched for.
    """
    profiles = isoflop.fit_isoflop(seen.n, seen.d, seen.loss)
    read, kind = curves.curves() if curves is not None else ([], "none")
    found = envelope.fit_envelope(read)
    members = {run: int(cluster) for run, cluster in zip(seen.runs, seen.clusters, strict=True)}
    clusters = np.array([members.get(curve.run, -1 - i) for i, curve in enumerate(read)], dtype=int)
    record: Record = {
        "envelope": _envelope_record(found, kind, clusters, budgets, resamples, seed),
        "isoflop": _isoflop_record(profiles, seen, law, budgets, resamples, seed),
        "surface": _surface_record(surface_parameters, surface, budgets)
        if surface_parameters is not None or law is None
        else _searched_record(law, surface, budgets),
    }
    record["agreement"] = _agreement(record, budgets)
    return record


def _envelope_record(
    found: Envelope, kind: str, clusters: np.ndarray, budgets: Sequence[float], resamples: int, seed: int
) -> Record:
    draws = min(resamples, ENVELOPE_RESAMPLES)
    lines = None
    if found.line is not None and draws:
        lines = _Lines(*envelope.resampled_lines(found, cluster_counts(clusters, draws, seed) > 0))
    return {
        "curves": kind,
        "n_curves": len(found.size_of),
        "handovers": [
            {"flops": each.flops, "n": each.n, "loss_nats": each.loss_nats, "free": each.free}
            for each in found.handovers
        ],
        **_line_record(found.line, found.why, lines, draws, budgets),
    }


def _isoflop_record(
    found: IsoFlop, seen: Observations, law: Surface | None, budgets: Sequence[float], resamples: int, seed: int
) -> Record:
    lines = None
    if found.line is not None and resamples:
        weights = cluster_counts(seen.clusters, resamples, seed)
        lines = _Lines(*isoflop.resampled_lines(found, seen.n, seen.loss, weights))
    expected = None
    if found.line is not None and law is not None:
        expected = isoflop.expected_exponent(found, seen.n, np.asarray(law.loss(seen.n, seen.d)))
    return {
        "profiles": [
            {
                "flops": each.flops,
                "runs": [
                    {"run": seen.runs[i], "n": float(seen.n[i]), "loss_nats": float(seen.loss[i])}
                    for i in sorted(each.members, key=lambda i: (seen.n[i], seen.runs[i]))
                ],
                "n_opt": each.n_opt if each.minimum != "none" else None,
                "loss_nats": each.loss_nats if each.minimum != "none" else None,
                "curvature": each.curvature,
                "minimum": each.minimum,
            }
            for each in found.profiles
        ],
        **_line_record(found.line, found.why, lines, resamples, budgets),
        "n_exponent_of_law": expected,
    }


def _line_record(
    line: PowerLine | None, why: str | None, lines: _Lines | None, draws: int, budgets: Sequence[float]
) -> Record:
    if line is None:
        return {"n_exponent": None, "why": why}
    allocations = []
    for budget in budgets:
        n = float(line.at(budget))
        entry: Record = {"flops": budget, "n_opt": n, "d_opt": budget / FLOPS_PER_ND / n}
        if lines is not None:
            optima = np.exp(lines.log_coefficient + lines.exponent * np.log(budget))
            entry["n_opt_interval"] = lines.interval(optima)
        allocations.append(entry)
    return {
        "n_exponent": line.exponent,
        "n_exponent_interval": lines.interval(lines.exponent) if lines is not None else None,
        "d_exponent": 1.0 - line.exponent,
        "log_coefficient": line.log_coefficient,
        "worst_log_residual": line.worst,
        "drawn": draws if lines is not None else 0,
        "used": int(np.isfinite(lines.exponent).sum()) if lines is not None else 0,
        "allocations": allocations,
        "why": None,
    }


def _surface_record(parameters: np.ndarray | None, boot: Bootstrap | None, budgets: Sequence[float]) -> Record:
    if parameters is None:
        return {"n_exponent": None, "why": "the fitted law knows N, D or C alone, so it has no optimum"}
    _, a, b, alpha, beta = parameters
    if a <= 0 or b <= 0:
        return {"n_exponent": None, "why": "A or B ran to 0, so there is no optimum between"}
    interval = None
    if boot is not None and len(boot.parameters):
        drawn = boot.parameters
        ends = boot.interval(drawn[:, 4] / (drawn[:, 3] + drawn[:, 4]))
        interval = None if ends is None else list(ends)
    allocations = []
    for budget in budgets:
        n, d, _ = allocate(parameters, budget)
        allocations.append({"flops": budget, "n_opt": float(n), "d_opt": float(d)})
    exponent = float(beta / (alpha + beta))
    return {
        "n_exponent": exponent,
        "n_exponent_interval": interval,
        "d_exponent": 1.0 - exponent,
        "allocations": allocations,
        "why": None,
    }


def _searched_record(law: Surface, boot: Bootstrap | None, budgets: Sequence[float]) -> Record:
    """Return the optima of a surface without a closed form; the exponent is the local one at the first budget."""
    around = budgets[0] / np.e, budgets[0] * np.e
    try:
        best = [optimum(law, budget) for budget in budgets]
        ends = [optimum(law, budget).n_opt for budget in around]
    except UsageFault as fault:
        return {"n_exponent": None, "why": str(fault)}
    exponent = float(np.log(ends[1] / ends[0]) / 2)
    interval = None
    if boot is not None and len(boot.parameters):
        low, high = (search(boot.losses, budget)[0] for budget in around)
        slopes = np.log(high / low) / 2
        interval = boot.interval(slopes[np.isfinite(slopes)])
    return {
        "n_exponent": exponent,
        "n_exponent_interval": None if interval is None else list(interval),
        "d_exponent": 1.0 - exponent,
        "allocations": [{"flops": each.flops, "n_opt": each.n_opt, "d_opt": each.d_opt} for each in best],
        "why": None,
    }


def _agreement(record: Record, budgets: Sequence[float]) -> Record:
    """Say in numbers and a sentence how far apart the approaches are that gave an answer."""
    found = {name: entry for name, entry in record.items() if entry["n_exponent"] is not None}
    if len(found) < 2:
        return {"of": list(found), "sentence": "nothing to compare: fewer than two approaches have an answer"}
    exponents = [entry["n_exponent"] for entry in found.values()]
    factors = []
    for i, budget in enumerate(budgets):
        optima = [entry["allocations"][i]["n_opt"] for entry in found.values()]
        factors.append({"flops": budget, "n_opt_factor": max(optima) / min(optima)})
    spread = max(exponents) - min(exponents)
    worst = max(factors, key=lambda entry: entry["n_opt_factor"])
    verdict = "they agree" if worst["n_opt_factor"] <= ALIKE else "they disagree"
    return {
        "of": list(found),
        "n_exponent_spread": spread,
        "n_opt_factors": factors,
        "sentence": f"{verdict}: exponents within {spread:.3f}, N_opt at {worst['flops']:.3g} FLOP within a factor of "
        f"{worst['n_opt_factor']:.2f}",
    }
