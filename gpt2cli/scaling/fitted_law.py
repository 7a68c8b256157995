"""A fitted law of any form: what `fit` saves and what `predict`, `optimal` and the figures ask for a loss.

Every law, fitted or published, answers `loss(n, d)`, `array()` and `form`. What a form needs beside N and D stands in
`Setting`, so that all of them are functions of N and D: C is 6 N D, steps are D over the batch, and without a number
of unique tokens nothing is repeated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gpt2cli.scaling.data_constrained import DataConstrainedLaw
from gpt2cli.scaling.forms import Variables, form_named
from gpt2cli.scaling.kaplan import CRITICAL_BATCH, CriticalBatch, KaplanLaw, KaplanStepsLaw
from gpt2cli.scaling.laws import FLOPS_PER_ND, ChinchillaLaw


@dataclass(frozen=True)
class Setting:
    """What N and D leave open: tokens per step (None: the critical batch), B_crit(L), unique tokens (None: no end).

    The batch is one number, or one for each N and D.
    """

    batch: float | np.ndarray | None = None
    critical: CriticalBatch = CRITICAL_BATCH
    unique: float | None = None


_PLAIN = Setting()
_NEWTON = 30


@dataclass(frozen=True)
class FittedLaw:
    """Parameters of one form, in its order and in the units of the data."""

    name: str
    values: tuple[float, ...]
    setting: Setting = _PLAIN

    @property
    def form(self) -> str:
        """The formula, as text."""
        return form_named(self.name).formula

    @property
    def parameters(self) -> dict[str, float]:
        """Name of parameter -> value."""
        return dict(zip(form_named(self.name).parameters, self.values, strict=True))

    def array(self) -> np.ndarray:
        """Return the parameters, shape (P,)."""
        return np.array(self.values)

    def loss(self, n: Any, d: Any) -> Any:
        """Return the loss in nats at `n` parameters and `d` tokens (numbers or arrays that broadcast)."""
        n, d = np.broadcast_arrays(np.asarray(n, dtype=float), np.asarray(d, dtype=float))
        found = law_losses(self.name, self.array()[None], n.ravel(), d.ravel(), self.setting)[0].reshape(n.shape)
        return found if found.shape else float(found)


AnyLaw = FittedLaw | ChinchillaLaw | KaplanLaw | KaplanStepsLaw | DataConstrainedLaw


def law_of(name: str, values: np.ndarray, setting: Setting = _PLAIN) -> AnyLaw:
    """Return the law with parameters `values` (P,): the paper's own class where there is one, else a FittedLaw."""
    named = dict(zip(form_named(name).parameters, (float(value) for value in values), strict=True))
    if name == "chinchilla":
        return ChinchillaLaw(**named)
    if name == "kaplan-nd":
        return KaplanLaw(**named)
    if name == "kaplan-ns":
        return KaplanStepsLaw(**named, critical=setting.critical)
    if name == "data-constrained":
        decays = {"R_D_star": named.pop("R_D"), "R_N_star": named.pop("R_N")}
        return DataConstrainedLaw(**named, **decays, unique=setting.unique)
    return FittedLaw(name, tuple(named.values()), setting)


def law_losses(name: str, parameters: np.ndarray, n: Any, d: Any, setting: Setting) -> np.ndarray:
    """Return losses (R, M) for parameters (R, P) of one form at `n` and `d`, (M,) or (R, M)."""
    form = form_named(name)
    n, d = np.atleast_1d(np.asarray(n, dtype=float)), np.atleast_1d(np.asarray(d, dtype=float))
    theta = form.from_units(parameters, dict.fromkeys("ndcsu", 0.0) | {"loss": 0.0})
    if "s" in form.needs:
        return _by_steps(theta, n, d, setting)
    unique = np.full(d.shape, np.inf if setting.unique is None else np.log(setting.unique))
    variables = Variables(np.log(n), np.log(d), np.log(FLOPS_PER_ND * n * d), None, unique)
    return form.predict(theta, variables)


def _by_steps(theta: np.ndarray, n: np.ndarray, d: np.ndarray, setting: Setting) -> np.ndarray:
    """Solve L = L(N, S_min(L)) by Newton's method: S_min = D/(B + B_crit(L)) grows with L, so there is one answer.

    Without a batch it is B_crit itself, as in Kaplan's efficient training, where S_min = D / (2 B_crit).
    """
    size = theta[:, :1] * np.exp(-theta[:, 2:3] * np.log(n))
    log = np.log(size + theta[:, 1:2] + 0.0 * d)
    for _ in range(_NEWTON):
        critical = setting.critical.at(np.exp(log))
        batch = critical if setting.batch is None else setting.batch
        term = theta[:, 1:2] * np.exp(-theta[:, 3:4] * np.log(d / (critical + batch)))
        share = term / (size + term) * theta[:, 3:4] / setting.critical.alpha_B
        slope = share if setting.batch is None else share * critical / (critical + batch)
        log = log - np.clip((log - np.log(size + term)) / (1 + slope), -3.0, 3.0)
    return np.exp(log)
