"""A fitted law of any form: what `fit` saves and what `predict`, `optimal` and the figures ask for a loss.

Every law, fitted or published, answers `loss(n, d)`, `array()` and `form`. What a form needs beside N and D stands in
`Setting`, so that all of them are functions of N and D: C is 6 N D, steps are D over the batch, and without a number
of unique tokens nothing is repeated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gpt2cli.scaling.forms import Form, Variables, form_named
from gpt2cli.scaling.laws import FLOPS_PER_ND

CRITICAL_BATCH = (2.1e8, 0.21)
"""B* in tokens and alpha_B of B_crit = B*/L^(1/alpha_B), Kaplan et al. 2020, Table 6."""


@dataclass(frozen=True)
class Setting:
    """What N and D leave open: tokens per step, (B*, alpha_B), unique tokens (None: no repetition)."""

    batch: float | None = None
    critical_batch: tuple[float, float] = CRITICAL_BATCH
    unique: float | None = None


def critical_batch(loss: Any, law: tuple[float, float] = CRITICAL_BATCH) -> Any:
    """Return B_crit in tokens at `loss` nats: B*/L^(1/alpha_B). It grows as the loss falls (Kaplan et al., eq. 5.3)."""
    return law[0] / np.asarray(loss, dtype=float) ** (1 / law[1])


@dataclass(frozen=True)
class FittedLaw:
    """Parameters of one form, in its order and in the units of the data."""

    name: str
    values: tuple[float, ...]
    setting: Setting = Setting()

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


def law_losses(name: str, parameters: np.ndarray, n: Any, d: Any, setting: Setting) -> np.ndarray:
    """Return losses (R, M) for parameters (R, P) of one form at `n` and `d` (M,)."""
    form = form_named(name)
    n, d = np.atleast_1d(np.asarray(n, dtype=float)), np.atleast_1d(np.asarray(d, dtype=float))
    theta = form.from_units(parameters, dict.fromkeys("ndcsu", 0.0) | {"loss": 0.0})
    if "s" in form.needs:
        return _by_steps(form, theta, n, d, setting)
    unique = d if setting.unique is None else np.minimum(d, setting.unique)
    return form.predict(theta, Variables(np.log(n), np.log(d), np.log(FLOPS_PER_ND * n * d), None, np.log(unique)))


def _by_steps(form: Form, theta: np.ndarray, n: np.ndarray, d: np.ndarray, setting: Setting) -> np.ndarray:
    """Solve L = L(N, S_min(L)) by bisection: S_min = (D/B) / (1 + B_crit(L)/B) grows with L, so there is one answer.

    Without a batch it is B_crit itself, as in Kaplan's efficient training, where S_min = D / (2 B_crit).
    """
    shape = (len(theta), n.size)
    low, high = np.full(shape, -12.0), np.full(shape, 12.0)
    for _ in range(60):
        middle = (low + high) / 2
        batch = critical_batch(np.exp(middle), setting.critical_batch)
        steps = d / (2 * batch) if setting.batch is None else d / (setting.batch + batch)
        size = theta[:, :1] * np.exp(-theta[:, 2:3] * np.log(n))
        below = size + theta[:, 1:2] * np.exp(-theta[:, 3:4] * np.log(steps)) > np.exp(middle)
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.exp((low + high) / 2)
