"""A gpt2.fit/1 record made ready to draw: its runs as arrays, its law, the optima of the law and of its resamples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.records.jsonl import Record
from gpt2cli.scaling.diagnosis import levels
from gpt2cli.scaling.fitted_law import FittedLaw
from gpt2cli.scaling.forms import form_named
from gpt2cli.scaling.laws import FLOPS_PER_ND, ChinchillaLaw, allocate
from gpt2cli.scaling.optimum import optimum, search
from gpt2cli.scaling.saved import KnownLaw, known_law
from gpt2cli.scaling.sound_fit import check_fit, is_size


@dataclass(frozen=True)
class DrawnFit:
    """M runs and the law fitted to them; arrays are (M,). `residual` is log(fitted) - log(measured).

    `size_of` ranks each run's size, `sizes` (K,) are their parameters.
    """

    record: Record
    known: KnownLaw
    n: np.ndarray
    d: np.ndarray
    loss: np.ndarray
    residual: np.ndarray
    size_of: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(cls, record: Record) -> DrawnFit:
        """Read a record; raise BadInput when it is damaged or carries no runs."""
        check_fit(record)
        known = known_law(record, "the input")
        rows = record.get("observations") or []
        if not rows:
            raise BadInput("the fit carries no observations, so there is nothing to draw")
        try:
            columns = [[float(row[key]) for row in rows] for key in ("n", "d", "loss_nats", "log_residual")]
        except (KeyError, TypeError, ValueError):
            raise BadInput("the fit's observations are damaged: n, d, loss_nats and log_residual are numbers") from None
        n, d, loss, residual = (np.array(column) for column in columns)
        if not all(is_size(float(value)) for value in (*n, *d, *loss)) or not np.all(np.abs(residual) < 100):
            raise BadInput("the fit's observations are damaged: a size, length or loss that none can be")
        size_of = levels(n)
        sizes = np.array([float(np.exp(np.log(n[size_of == size]).mean())) for size in range(size_of.max() + 1)])
        return cls(record, known, n, d, loss, residual, size_of, sizes)

    @property
    def compute(self) -> np.ndarray:
        """C = 6 N D of the runs, (M,)."""
        return FLOPS_PER_ND * self.n * self.d

    @property
    def has_optimum(self) -> bool:
        """Whether the law is one of N and D together; one of N, D or C alone says nothing of how to split a budget."""
        law = self.known.law
        return not isinstance(law, FittedLaw) or len(form_named(law.name).needs) > 1

    @property
    def budgets(self) -> list[float]:
        """The budgets in FLOP that the fit was asked for."""
        return [float(entry["flops"]) for entry in self.record.get("allocations", [])]

    def optima(self, compute: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return N_opt and the loss there for budgets (P,), nan where the law has no optimum between."""
        if isinstance(self.known.law, ChinchillaLaw):
            n, d, loss = np.array([allocate(self.known.law.array(), float(c)) for c in compute]).reshape(-1, 3).T
            good = np.isfinite(n) & np.isfinite(d) & np.isfinite(loss) & (n > 0) & (d > 0)
            return np.where(good, n, np.nan), np.where(good, loss, np.nan)
        found = np.full((2, len(compute)), np.nan)
        for i, flops in enumerate(compute if self.has_optimum else ()):
            try:
                best = optimum(self.known.law, float(flops))
            except UsageFault:
                continue
            found[:, i] = best.n_opt, best.loss
        return found[0], found[1]

    def resampled_optima(self, flops: float) -> np.ndarray:
        """Return N_opt of every resample that has one, (R,)."""
        boot = self.known.boot
        if boot is None or not len(boot.parameters) or not self.has_optimum:
            return np.empty(0)
        if isinstance(self.known.law, ChinchillaLaw):
            n, d, _ = allocate(boot.parameters, flops)
        else:
            n, _ = search(boot.losses, flops)
            d = flops / FLOPS_PER_ND / n
        return n[np.isfinite(n) & np.isfinite(d) & (n > 0) & (d > 0)]


def part(record: Record, *names: str) -> Any:
    """Return a nested field of a fit, None where it is not there; such fits were written before it was."""
    found: Any = record
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    return found
