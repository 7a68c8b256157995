"""Whether runs identify a form of law: enough distinct values of each variable, varied independently, and a condition
number in which the parameters do not trade off. Every refusal says which run to add.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gpt2cli.scaling.design import variables_of
from gpt2cli.scaling.diagnosis import MAX_CONDITION, levels, refusals, short
from gpt2cli.scaling.fit import Fit
from gpt2cli.scaling.fitted_law import Setting, law_losses
from gpt2cli.scaling.form_fit import form_condition
from gpt2cli.scaling.forms import Form, Variables
from gpt2cli.scaling.observations import Observations

_NAMES = {"n": "model size", "d": "length", "c": "compute budget", "s": "number of steps"}
_STRETCH = 4.0


def design_refusals(form: Form, variables: Variables) -> list[str]:
    """Return a sentence for each reason why no fit of `form` can be identified from these variables."""
    count = len(form.parameters)
    if form.needs[:2] == ("n", "d"):
        n, d = np.exp(variables.get("n")), np.exp(variables.get("d"))
        reasons = refusals(n, d, count)
        if "u" in form.needs and not reasons and np.all(variables.get("u") >= variables.get("d") - 1e-9):
            reasons.append(
                "no run repeats its data, so R_D cannot be told; add a run whose D is several times its unique tokens"
            )
        return reasons
    if form.name == "kaplan-ns":
        return refusals(np.exp(variables.get("n")), np.exp(variables.get("s")), count, ("S", "number of steps"))
    name = form.needs[0]
    values = np.exp(variables.get(name))
    found, top = int(levels(values).max()) + 1, short(float(values.max()) * _STRETCH)
    if found > count or (found == count and not form.floor):
        return []
    wanted = count + (1 if form.floor else 0)
    return [
        f"{found} distinct {_NAMES[name]}{'' if found == 1 else 's'} cannot determine the {count} parameters of "
        f"{form.name}; add {wanted - found} or more, for example {name.upper()} = {top}"
    ]


def condition_refusals(form: Form, seen: Observations, setting: Setting, fit: Fit) -> list[str]:
    """Return a sentence when the fit's condition number is above about 100 or infinite, with the run that mends it."""
    if fit.condition is not None and fit.condition <= MAX_CONDITION:
        return []
    if fit.condition is None:
        what = "the parameters cannot be told apart: the Jacobian is singular"
        vanished = [name for name in fit.at_bound if name != "E"]
        if vanished:
            what += f" ({', '.join(vanished)} ran to a bound, so a term is not visible in these runs)"
    else:
        what = f"the condition number is {fit.condition:.0f}, above {MAX_CONDITION:.0f}: the parameters trade off"
    return [f"{what}; {_remedy(form, seen, setting, fit)}"]


def _remedy(form: Form, seen: Observations, setting: Setting, fit: Fit) -> str:
    best: tuple[float, float, float] | None = None
    for n in _corners(seen.n) if form.needs != ("d",) else [float(seen.n.max())]:
        for d in _corners(seen.d) if form.needs != ("n",) else [float(seen.d.max())]:
            grown = _with_run(form, seen, setting, fit, n, d)
            with np.errstate(all="ignore"):
                condition = form_condition(form, variables_of(form, grown, setting), grown.loss, fit.parameters)
            if condition is not None and (best is None or condition < best[0]):
                best = (condition, n, d)
    if best is None or best[0] > 0.9 * (fit.condition or np.inf):
        return "vary N and D further and more independently, with longer and shorter runs of several sizes"
    words = f"add a run of N = {short(best[1])} with D = {short(best[2])}"
    if best[0] <= MAX_CONDITION:
        return f"{words}, which by this fit brings it to {best[0]:.0f}"
    return f"{words} (to {best[0]:.0f} by this fit), and others about it"


def _corners(values: np.ndarray) -> list[float]:
    low, high = float(values.min()), float(values.max())
    return [low / _STRETCH, low, high, high * _STRETCH]


def _with_run(form: Form, seen: Observations, setting: Setting, fit: Fit, n: float, d: float) -> Observations:
    """Return `seen` with one more run where the fit expects it to lie."""
    steps = seen.steps if len(seen.steps) else np.full(len(seen.n), np.nan)
    unique = seen.unique if len(seen.unique) else np.full(len(seen.n), np.nan)
    batch = float(np.median(seen.d / steps))
    own = float(np.median(unique))
    loss = law_losses(form.name, fit.parameters[None], n, d, replace(setting, batch=batch, unique=None))[0, 0]
    loss = loss if np.isfinite(loss) and loss > 0 else float(np.median(seen.loss))
    return replace(
        seen,
        n=np.append(seen.n, n),
        d=np.append(seen.d, d),
        loss=np.append(seen.loss, loss),
        steps=np.append(steps, d / batch),
        unique=np.append(unique, own),
        runs=(*seen.runs, "added"),
    )
