"""The laws of Kaplan et al. 2020 (arXiv 2001.08361): N, D, C alone, L(N, D), L(N, S_min), and the critical batch size.

N counts non-embedding parameters, C is given in FLOP (the paper's PF-days are converted here), B in tokens, S in steps.
None of these laws has an irreducible loss unless one is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

PF_DAY = 8.64e19
"""FLOP in one petaflop/s for a day."""


@dataclass(frozen=True)
class PowerLaw:
    """L(x) = E + (x_c / x)^alpha in one variable: parameters n, tokens d or FLOP c (eq. 1.1 to 1.3; E is 0 there)."""

    variable: str
    exponent: float
    scale: float
    E: float = 0.0

    @property
    def form(self) -> str:
        """The formula."""
        irreducible = "E + " if self.E else ""
        return f"{irreducible}({self.variable.upper()}_c/{self.variable.upper()})^alpha_{self.variable.upper()}"

    def value(self, x: Any) -> Any:
        """Return the loss in nats at `x` of the law's variable."""
        return self.E + (self.scale / np.asarray(x, dtype=float)) ** self.exponent


@dataclass(frozen=True)
class KaplanLaw:
    """L(N, D) = [(N_c/N)^(alpha_N/alpha_D) + D_c/D]^alpha_D (eq. 1.5). N is non-embedding."""

    alpha_N: float
    alpha_D: float
    N_c: float
    D_c: float
    form = "[(N_c/N)^(alpha_N/alpha_D) + D_c/D]^alpha_D"

    def loss(self, n: Any, d: Any) -> Any:
        """Return the loss in nats at `n` non-embedding parameters and `d` tokens; infinity: the limit."""
        size = (self.N_c / np.asarray(n, dtype=float)) ** (self.alpha_N / self.alpha_D)
        return (size + self.D_c / np.asarray(d, dtype=float)) ** self.alpha_D


@dataclass(frozen=True)
class CriticalBatch:
    """B_crit(L) = B_star / L^(1/alpha_B) tokens (eq. 1.4): it grows as the loss falls."""

    B_star: float
    alpha_B: float
    form = "B_star / L^(1/alpha_B)"

    def at(self, loss: Any) -> Any:
        """Return the critical batch size in tokens at `loss` nats."""
        with np.errstate(divide="ignore", over="ignore"):  # of a loss near 0 it is infinite
            return self.B_star / np.asarray(loss, dtype=float) ** (1 / self.alpha_B)


@dataclass(frozen=True)
class KaplanStepsLaw:
    """L(N, S_min) = (N_c/N)^alpha_N + (S_c/S_min)^alpha_S (eq. 1.6), with the critical batch size that it needs.

    S_min are the steps at a batch far above B_crit: S steps of B tokens count as S/(1 + B_crit/B) (eq. 5.4).
    """

    alpha_N: float
    alpha_S: float
    N_c: float
    S_c: float
    critical: CriticalBatch
    form = "(N_c/N)^alpha_N + (S_c/S_min)^alpha_S"

    def loss(self, n: Any, d: Any) -> Any:
        """Return the loss in nats after `d` tokens at the critical batch size: D = 2 B_crit(L) S_min.

        Infinity stands for the limit. Then C = 6 N D is twice C_min (eq. 5.5).
        """
        tokens = np.asarray(d, dtype=float)
        return self._solve(n, lambda loss: tokens / (2 * self.critical.at(loss)))

    def at_min_steps(self, n: Any, s_min: Any) -> Any:
        """Return the loss in nats at `n` non-embedding parameters after `s_min` steps of a large batch."""
        size = (self.N_c / np.asarray(n, dtype=float)) ** self.alpha_N
        return size + (self.S_c / np.asarray(s_min, dtype=float)) ** self.alpha_S

    def at_steps(self, n: Any, steps: Any, batch: Any) -> Any:
        """Return the loss in nats after `steps` steps of `batch` tokens: S_min depends on the loss, so it is solved."""
        steps, batch = np.asarray(steps, dtype=float), np.asarray(batch, dtype=float)
        return self._solve(n, lambda loss: steps / (1 + self.critical.at(loss) / batch))

    def at_min_compute(self, n: Any, c_min: Any) -> Any:
        """Return the loss in nats that `c_min` FLOP reach as least compute: C_min = 6 N B_crit(L) S_min."""
        size, compute = np.asarray(n, dtype=float), np.asarray(c_min, dtype=float)
        return self._solve(n, lambda loss: compute / (6 * size * self.critical.at(loss)))

    def _solve(self, n: Any, s_min_at: Any) -> Any:
        """Return the root of L = L(n, s_min_at(L)) by bisection: s_min_at grows with L, so the right side falls."""
        shape = np.broadcast_shapes(np.shape(n), np.shape(s_min_at(1.0)))
        low, high = np.full(shape, -20.0), np.full(shape, 60.0)
        with np.errstate(over="ignore", divide="ignore"):
            for _ in range(58):
                middle = (low + high) / 2
                above = self.at_min_steps(n, s_min_at(np.exp(middle))) > np.exp(middle)
                low, high = np.where(above, middle, low), np.where(above, high, middle)
        return np.exp((low + high) / 2)


ALPHA_S, S_C = 0.76, 2.1e3
"""Learning-curve exponent and scale of Table 3, which the early-stopping bound (eq. 5.7) uses."""
CRITICAL_BATCH = CriticalBatch(2.1e8, 0.21)
"""B_crit(L) as printed in eq. 1.4."""
SEPARATE = {
    "n": PowerLaw("n", 0.076, 8.8e13),
    "d": PowerLaw("d", 0.095, 5.4e13),
    "c": PowerLaw("c", 0.050, 3.1e8 * PF_DAY),
    "c-fixed-batch": PowerLaw("c", 0.057, 1.6e7 * PF_DAY),
}
"""Table 5's fits in one variable each; `c` is the law of C_min, `c-fixed-batch` the one of compute at a fixed batch."""


@dataclass(frozen=True)
class KaplanAllocation:
    """The paper's compute-optimal use of C_min (Table 6): each is a prefactor times a power of C_min in PF-days."""

    n: float
    d: float
    batch: float
    s_min: float


def kaplan_allocation(c_min: float) -> KaplanAllocation:
    """Return N, D, B (tokens) and S_min of Kaplan's Table 6 at `c_min` FLOP.

    D = 2e10 C^.27 is counted at B = B_crit, where training costs twice C_min: 6 N D / C_min is 1.81, not 1.
    """
    c = c_min / PF_DAY
    return KaplanAllocation(1.3e9 * c**0.73, 2e10 * c**0.27, 2.0e6 * c**0.24, 5.4e3 * c**0.03)


def tokens_against_overfitting(n: float) -> float:
    """Return 5e3 N^.74, the tokens from which over-fitting costs little (eq. 4.4); D grows with N, not N with D."""
    return 5e3 * n**0.74


def kaplan_parameters(n_layer: int, d_model: int, d_attn: int | None = None, d_ff: int | None = None) -> int:
    """Return N = 2 d_model n_layer (2 d_attn + d_ff): matrices only, no embeddings, biases or norms (eq. 2.1)."""
    attention, feed_forward = d_model if d_attn is None else d_attn, 4 * d_model if d_ff is None else d_ff
    return 2 * d_model * n_layer * (2 * attention + feed_forward)
