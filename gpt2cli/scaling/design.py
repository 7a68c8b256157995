"""What a form of law sees of the runs: its variables, and which runs it may use, by rule.

A law of one variable holds where the others do not bind, so it is fitted to the largest D at each N, the largest N at
each D, or the lowest losses at each compute (Kaplan et al. 2020, section 3). The runs left out are counted.
"""

from __future__ import annotations

import numpy as np

from gpt2cli.errors import BadInput
from gpt2cli.scaling.diagnosis import levels
from gpt2cli.scaling.fitted_law import Setting
from gpt2cli.scaling.forms import Form, Variables
from gpt2cli.scaling.laws import FLOPS_PER_ND
from gpt2cli.scaling.observations import Observations

LONGEST, LARGEST = "shorter run of the same size", "smaller model at the same length"
FRONTIER = "above the compute frontier: a run of no more compute reached less loss"


def select(form: Form, seen: Observations) -> Observations:
    """Return the runs that `form` is fitted to; the others are in its `excluded`, by rule."""
    if form.needs == ("n",):
        return seen.keep(_largest(seen.d, levels(seen.n)), LONGEST)
    if form.needs == ("d",):
        return seen.keep(_largest(seen.n, levels(seen.d)), LARGEST)
    if form.needs == ("c",):
        return seen.keep(_frontier(compute(seen), seen.loss), FRONTIER)
    return seen


def compute(seen: Observations) -> np.ndarray:
    """Return C = 6 N D in FLOP of each run, (M,): the count that every verb uses, whatever was recorded."""
    return FLOPS_PER_ND * seen.n * seen.d


def variables_of(form: Form, seen: Observations, setting: Setting) -> Variables:
    """Return the logs that `form` needs; raise BadInput when the runs do not tell them."""
    steps = unique = None
    if "s" in form.needs:
        known(seen.steps, len(seen.runs), form, "steps", "records of runs have them; in tables map steps=COL")
        batch = seen.d / seen.steps
        steps = np.log(seen.steps / (1 + setting.critical.at(seen.loss) / batch))
    if "u" in form.needs:
        known(seen.unique, len(seen.runs), form, "unique tokens", "give --unique, or in tables map unique=COL")
        unique = np.log(seen.unique)
    return Variables(np.log(seen.n), np.log(seen.d), np.log(compute(seen)), steps, unique)


def known(values: np.ndarray, runs: int, form: Form, what: str, remedy: str) -> None:
    """Raise BadInput unless every one of `runs` runs has a positive value."""
    lacking = runs - int(np.isfinite(values).sum())
    if lacking:
        raise BadInput(f"{form.name} needs the {what} of each run, and {lacking} of {runs} do not tell: {remedy}")


def _largest(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    chosen = np.zeros(len(values), dtype=bool)
    for group in range(int(groups.max()) + 1):
        member = groups == group
        chosen |= member & (values >= values[member].max() * (1 - 1e-9))
    return chosen


def _frontier(cost: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """Mark runs whose loss is below that of every run of no more compute."""
    order = np.lexsort((loss, cost))
    lowest = np.minimum.accumulate(np.concatenate([[np.inf], loss[order][:-1]]))
    chosen = np.empty(len(cost), dtype=bool)
    chosen[order] = loss[order] < lowest
    return chosen
