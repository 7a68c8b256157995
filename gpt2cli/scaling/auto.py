"""Which form of law to fit: the one that predicts unseen, larger runs best (rolling-origin), never the one with the
smallest residuals. Of forms within one standard error of the best the simplest is taken (Breiman et al. 1984, the 1-SE
rule). Forms that these runs do not identify are named with the reason and not considered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gpt2cli.errors import BadInput
from gpt2cli.scaling.design import select, variables_of
from gpt2cli.scaling.diagnosis import COLLINEAR, levels, log_correlation
from gpt2cli.scaling.fitted_law import Setting
from gpt2cli.scaling.form_fit import fit_form
from gpt2cli.scaling.forms import FORMS, Form
from gpt2cli.scaling.identification import condition_refusals, design_refusals
from gpt2cli.scaling.observations import Observations
from gpt2cli.scaling.rolling_origin import held_out, origins

_EQUAL = 1e-18
"""Mean squared hold-out errors this close are the same."""


@dataclass(frozen=True)
class Candidate:
    """One form: its hold-out error on the runs that all candidates predict, or why it was not considered."""

    form: Form
    rms_log_error: float | None = None
    rms_log_residual: float | None = None
    reason: str | None = None

    def record(self) -> dict[str, Any]:
        """Return an entry of the record's `candidates`."""
        return {"law": self.form.name, "parameters": len(self.form.parameters), "rms_log_error": self.rms_log_error,
                "rms_log_residual": self.rms_log_residual, "not_considered": self.reason}  # fmt: skip


def candidates_for(seen: Observations) -> list[Form]:
    """Return the forms that the design allows to ask for: joint ones, or those of the one variable that varies."""
    n_levels, d_levels = int(levels(seen.n).max()) + 1, int(levels(seen.d).max()) + 1
    correlation = log_correlation(seen.n, seen.d)
    if d_levels < 3 <= n_levels:
        names = ["kaplan-n", "kaplan-n-floor"]
    elif n_levels < 3 <= d_levels:
        names = ["kaplan-d", "kaplan-d-floor"]
    elif correlation is not None and correlation >= COLLINEAR:
        names = ["kaplan-c", "kaplan-c-floor"]
    else:
        names = ["chinchilla", "kaplan-nd", "skaling"]
        if len(seen.unique) and np.all(np.isfinite(seen.unique)) and np.any(seen.unique < seen.d * (1 - 1e-9)):
            names.append("data-constrained")
        if len(seen.steps) and np.all(np.isfinite(seen.steps)):
            names.append("kaplan-ns")
    return [FORMS[name] for name in names]


def choose(seen: Observations, setting: Setting, delta: float) -> tuple[Form, list[Candidate]]:
    """Return the form of least rolling-origin error and all candidates. Raises BadInput when no form can be judged."""
    forms = candidates_for(seen)
    seen = select(forms[0], seen)
    found: list[Candidate] = []
    able: list[tuple[Form, float]] = []
    for form in forms:
        variables = variables_of(form, seen, setting)
        reasons = design_refusals(form, variables)
        if not reasons:
            fit = fit_form(form, variables, seen.loss, delta)
            reasons = condition_refusals(form, seen, setting, fit)
            if not reasons:
                able.append((form, float(np.sqrt(np.mean(fit.residuals**2)))))
        if reasons:
            found.append(Candidate(form, reason=reasons[0]))
    shared = _shared_origins([form for form, _ in able], seen, setting)
    if not shared:
        raise BadInput(
            f"{len(seen.runs)} runs are too few for --law auto to hold some out "
            f"({'; '.join(f'{each.form.name}: {each.reason}' for each in found) or 'no form can be fitted to fewer'}); "
            "name a law, or add runs of more compute"
        )
    squares: dict[str, np.ndarray] = {}
    for form, residual in able:
        unseen = held_out(form, seen, setting, delta, shared)
        squares[form.name] = unseen.log_error**2
        found.append(Candidate(form, unseen.rms, residual))
    order = {form.name: i for i, form in enumerate(forms)}
    return FORMS[_simplest_of_the_best(squares)], sorted(found, key=lambda each: order[each.form.name])


def _simplest_of_the_best(squares: dict[str, np.ndarray]) -> str:
    """Return the form of fewest parameters whose squared errors (H,) exceed the best's by no standard error."""
    best = min(squares, key=lambda name: float(squares[name].mean()))
    alike = []
    for name, values in squares.items():
        excess = values - squares[best]
        if excess.mean() <= excess.std() / np.sqrt(len(excess)) + _EQUAL:
            alike.append(name)
    return min(alike, key=lambda name: (len(FORMS[name].parameters), float(squares[name].mean())))


def _shared_origins(forms: list[Form], seen: Observations, setting: Setting) -> list[np.ndarray]:
    """Return the origins at which every form can be fitted."""
    if not forms:
        return []
    sets = [{int(mask.sum()): mask for mask in origins(form, seen, setting)} for form in forms]
    shared = set.intersection(*(set(each) for each in sets))
    return [sets[0][size] for size in sorted(shared)]
