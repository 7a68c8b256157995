"""Which runs a fit leans on: it is refitted without each, and what moves is what it says of the budget asked about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gpt2cli.scaling.form_fit import resample_form
from gpt2cli.scaling.forms import Form, Variables

SHOWN = 3
LARGE = 0.01
"""A run that alone moves the predicted loss by more than this share is warned of."""


@dataclass(frozen=True)
class Influence:
    """For each run i, (M,): log of the loss predicted without it over with it, where the report predicts."""

    shifts: np.ndarray

    def order(self) -> np.ndarray:
        """Return indices, the most influential first."""
        return np.argsort(-np.abs(self.shifts), kind="stable")

    def record(self, runs: tuple[str, ...], clusters: np.ndarray) -> list[dict[str, Any]]:
        """Return diagnosis.influential: the SHOWN most influential."""
        return [
            {"run": runs[i], "cluster": int(clusters[i]), "log_loss_shift": float(self.shifts[i])}
            for i in self.order()[:SHOWN]
        ]

    def warnings(self, runs: tuple[str, ...]) -> list[str]:
        """Return a sentence about the most influential run when it alone moves the prediction by more than LARGE."""
        worst = int(self.order()[0])
        if abs(self.shifts[worst]) <= LARGE:
            return []
        return [
            f"without the run {runs[worst]} the loss predicted ahead would be "
            f"{100 * abs(self.shifts[worst]):.1f} % {'higher' if self.shifts[worst] > 0 else 'lower'}: "
            "the extrapolation hangs on this one run; repeat it, or add runs near it"
        ]


def leave_one_out(
    form: Form, variables: Variables, loss: np.ndarray, start: np.ndarray, delta: float, at: Variables
) -> Influence:
    """Refit without each of M runs; `at` holds one point of each variable, where the predictions are compared."""
    weights = 1.0 - np.eye(len(loss))
    fitted = resample_form(form, variables, loss, weights, start, delta)
    origin = dict.fromkeys("ndcsu", 0.0) | {"loss": 0.0}
    with np.errstate(all="ignore"):
        without = form.predict(form.from_units(fitted, origin), at)[:, 0]
        whole = form.predict(form.from_units(start[None], origin), at)[0, 0]
        shifts = np.log(without / whole)
    return Influence(np.nan_to_num(shifts, nan=0.0, posinf=0.0, neginf=0.0))
