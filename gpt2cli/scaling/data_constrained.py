"""The data-constrained law of Muennighoff et al. 2023 (arXiv 2305.16264): what repeated tokens are still worth.

L = E + A N'^-alpha + B D'^-beta with D' = U + U R_D* (1 - exp(-R_D/R_D*)), R_D = D/U - 1 repetitions of U unique
tokens, and N' likewise from R_N = N/U_N - 1, where U_N is the size that U unique tokens would be compute-optimal for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class DataConstrainedLaw:
    """The law: five Chinchilla constants, the half-lives of repetition, U unique tokens (None: never repeated)."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float
    R_D_star: float
    R_N_star: float
    unique: float | None = None
    form = "E + A N'^-alpha + B D'^-beta"

    def loss(self, n: Any, d: Any) -> Any:
        """Return the loss in nats at `n` parameters and `d` tokens seen, `unique` of them different."""
        n, d = np.asarray(n, dtype=float), np.asarray(d, dtype=float)
        if self.unique is not None:
            n = effective(n, self.unique_parameters(), self.R_N_star)
            d = effective(d, self.unique, self.R_D_star)
        return self.E + self.A * n**-self.alpha + self.B * d**-self.beta

    def unique_parameters(self) -> float:
        """Return U_N: N_opt of the budget whose D_opt is U, G (U G)^(beta/alpha) with Hoffmann's G."""
        if self.unique is None:
            return math.inf
        log_g = math.log(self.alpha * self.A / (self.beta * self.B)) / (self.alpha + self.beta)
        return math.exp(log_g + self.beta / self.alpha * (math.log(self.unique) + log_g))


def effective(total: Any, unique: float, half_life: float) -> Any:
    """Return what `total`, of which `unique` are different, is worth: U + U R* (1 - exp(-R/R*)), R = total/U - 1."""
    total = np.asarray(total, dtype=float)
    repetitions = np.maximum(total / unique - 1, 0.0)
    return np.minimum(total, unique) - unique * half_life * np.expm1(-repetitions / half_life)
