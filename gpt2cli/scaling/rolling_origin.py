"""How far a fit can be trusted beyond its runs: rolling-origin hold-out. It is fitted to the runs of least compute and
asked for those of more, again and again from a later origin; every error is of a run that the fit had not seen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gpt2cli.scaling.design import compute, variables_of
from gpt2cli.scaling.fitted_law import Setting, law_losses
from gpt2cli.scaling.form_fit import FormProblem, fit_form
from gpt2cli.scaling.forms import Form, Variables
from gpt2cli.scaling.identification import design_refusals
from gpt2cli.scaling.observations import Observations

SHARES = (0.5, 0.6, 0.7, 0.8, 0.9)
"""Shares of the runs, by compute, after which an origin lies."""
SAME_BUDGET = 1.01
"""Runs of one budget differ by this factor at most, for N and D are whole: none of them lies ahead of another."""


@dataclass(frozen=True)
class HeldOut:
    """Runs predicted before they were seen, each (H,): index, log(predicted/measured), runs fitted, compute reached
    over the largest fitted. `origins` are the runs fitted at each.
    """

    index: np.ndarray
    log_error: np.ndarray
    fitted: np.ndarray
    reach: np.ndarray

    @property
    def rms(self) -> float | None:
        """Root mean square of the log errors; None when no origin could be fitted."""
        return float(np.sqrt(np.mean(self.log_error**2))) if len(self.index) else None

    def record(self, seen: Observations) -> dict[str, Any]:
        """Return the fields of diagnosis.rolling_origin."""
        known = len(self.index) > 0
        return {
            "rms_log_error": self.rms,
            "worst_log_error": float(self.log_error[np.abs(self.log_error).argmax()]) if known else None,
            "mean_log_error": float(self.log_error.mean()) if known else None,
            "origins": sorted({int(count) for count in self.fitted}),
            "predictions": [
                {"run": seen.runs[i], "n": float(seen.n[i]), "d": float(seen.d[i]), "loss_nats": float(seen.loss[i]),
                 "predicted_nats": float(seen.loss[i] * np.exp(error)), "log_error": float(error),
                 "fitted_runs": int(fitted), "reach": float(reach)}
                for i, error, fitted, reach in zip(self.index, self.log_error, self.fitted, self.reach, strict=True)
            ],
        }  # fmt: skip


def origins(form: Form, seen: Observations, setting: Setting) -> list[np.ndarray]:
    """Return for each origin the mask (M,) of runs to fit: all of no more compute, and enough for `form`."""
    cost = compute(seen)
    ordered = np.sort(cost)
    cuts = {float(ordered[max(0, int(np.ceil(share * len(cost))) - 1)]) for share in SHARES}
    found: list[np.ndarray] = []
    for cut in sorted(cuts):
        chosen = cost <= cut * SAME_BUDGET
        if chosen.all() or chosen.sum() <= len(form.parameters) or (found and (chosen == found[-1]).all()):
            continue
        if not design_refusals(form, variables_of(form, seen.keep(chosen, "held out"), setting)):
            found.append(chosen)
    return found


def held_out(form: Form, seen: Observations, setting: Setting, delta: float, masks: list[np.ndarray]) -> HeldOut:
    """Fit `form` at each origin and predict the runs up to the next one (those after the last one, at the last)."""
    cost, variables = compute(seen), variables_of(form, seen, setting)
    parts: list[tuple[np.ndarray, ...]] = []
    ends = [*masks[1:], np.ones(len(cost), dtype=bool)][: len(masks)]
    for mask, later in zip(masks, ends, strict=True):
        index = np.flatnonzero(later & ~mask)
        fit = fit_form(form, _rows(variables, mask), seen.loss[mask], delta)
        error = _log_errors(form, fit.parameters, seen, variables, setting, index)
        parts.append((index, error, np.full(len(index), mask.sum()), cost[index] / cost[mask].max()))
    if not parts:
        return HeldOut(np.empty(0, dtype=int), np.empty(0), np.empty(0, dtype=int), np.empty(0))
    return HeldOut(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _log_errors(
    form: Form, parameters: np.ndarray, seen: Observations, variables: Variables, setting: Setting, index: np.ndarray
) -> np.ndarray:
    """Return log(predicted/measured) of the runs `index`. S_min depends on the loss, so there it is solved for."""
    if "s" in form.needs:
        own = replace(setting, batch=seen.d[index] / seen.steps[index])
        predicted = law_losses(form.name, parameters[None], seen.n[index], seen.d[index], own)[0]
        return np.asarray(np.log(predicted / seen.loss[index]))
    problem = FormProblem.of(form, _rows(variables, index), seen.loss[index])
    return problem.residuals(form.from_units(parameters, problem.centre)[None])[0]


def _rows(variables: Variables, chosen: np.ndarray) -> Variables:
    arrays = {name: getattr(variables, name) for name in "ndcsu"}
    return Variables(**{name: None if values is None else values[chosen] for name, values in arrays.items()})
