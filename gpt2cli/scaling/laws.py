"""Published scaling laws as data, the Chinchilla form and its closed-form optimum. Other forms have files of their own.

Losses are in nats per token, N in parameters, D in tokens, C in FLOP. C = k N D with k = 6 unless said otherwise.
Sources: Kaplan et al. 2020 (arXiv 2001.08361), Hoffmann et al. 2022 (2203.15556), Besiroglu et al. 2024 (2404.10102),
Muennighoff et al. 2023 (2305.16264).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from gpt2cli.errors import UsageFault
from gpt2cli.scaling.data_constrained import DataConstrainedLaw
from gpt2cli.scaling.kaplan import ALPHA_S, CRITICAL_BATCH, S_C, SEPARATE, KaplanLaw, KaplanStepsLaw, PowerLaw

FLOPS_PER_ND = 6.0
"""k in C = k N D: two FLOP forward and four backward for each parameter and token."""
PARAMETERS = ("E", "A", "B", "alpha", "beta")
"""Order of the Chinchilla parameters in every array of this package."""


@dataclass(frozen=True)
class Allocation:
    """How to spend one budget: parameters, tokens, and the loss this gives."""

    flops: float
    n_opt: float
    d_opt: float
    loss: float


@dataclass(frozen=True)
class ChinchillaLaw:
    """L(N, D) = E + A N^-alpha + B D^-beta (Hoffmann et al. 2022, eq. 2)."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float
    form = "E + A N^-alpha + B D^-beta"

    def loss(self, n: Any, d: Any) -> Any:
        """Return the loss in nats at `n` parameters and `d` tokens (numbers or arrays)."""
        return chinchilla_loss(self.array(), n, d)

    def array(self) -> np.ndarray:
        """Return the five parameters, shape (5,), in the order of PARAMETERS."""
        return np.array([self.E, self.A, self.B, self.alpha, self.beta])

    def allocate(self, flops: float, k: float = FLOPS_PER_ND) -> Allocation:
        """Return the N and D that minimise the loss subject to k N D = `flops`, in closed form."""
        n, d, loss = allocate(self.array(), flops, k)
        return Allocation(flops, float(n), float(d), float(loss))


class Surface(Protocol):
    """A law of N and D: what predictions, optima and comparisons need of it. Infinity stands for the limit."""

    @property
    def form(self) -> str:
        """The formula, as text."""

    def loss(self, n: Any, d: Any) -> Any:
        """Return the loss in nats at `n` parameters and `d` tokens."""


Law = ChinchillaLaw | KaplanLaw | DataConstrainedLaw | KaplanStepsLaw


@dataclass(frozen=True)
class PublishedLaw:
    """A law with the paper it stands in and what its N counts. `separate`: its fits in one variable (n, d, c)."""

    law: Law
    count: str
    source: str
    separate: Mapping[str, PowerLaw] = field(default_factory=dict)


PUBLISHED: MappingProxyType[str, PublishedLaw] = MappingProxyType(
    {
        "hoffmann": PublishedLaw(
            ChinchillaLaw(1.69, 406.4, 410.7, 0.34, 0.28),
            "total",
            "Hoffmann et al. 2022, approach 3, as printed (arXiv 2203.15556)",
        ),
        "hoffmann-unrounded": PublishedLaw(
            ChinchillaLaw(math.exp(0.5267228), math.exp(6.0073404), math.exp(6.0179186), 0.33917084, 0.2849083),
            "total",
            "Hoffmann et al. 2022, approach 3, from the paper's TeX source (arXiv 2203.15556)",
        ),
        "besiroglu": PublishedLaw(
            ChinchillaLaw(1.8172, 482.01, 2085.43, 0.3478, 0.3658),
            "total",
            "Besiroglu et al. 2024, replication of approach 3 (arXiv 2404.10102)",
        ),
        "besiroglu-huber": PublishedLaw(
            ChinchillaLaw(1.81722, 477.83, 2143.4, 0.34731, 0.36717),
            "total",
            "the data of Besiroglu et al. 2024, refitted with Huber 1e-3 on log residuals (arXiv 2404.10102)",
        ),
        "kaplan-t5": PublishedLaw(
            KaplanLaw(0.076, 0.095, 8.8e13, 5.4e13),
            "non-embedding",
            "Kaplan et al. 2020, the separate fits of Table 5, in the joint form (arXiv 2001.08361)",
            SEPARATE,
        ),
        "kaplan-t2": PublishedLaw(
            KaplanLaw(0.076, 0.103, 6.4e13, 1.8e13),
            "non-embedding",
            "Kaplan et al. 2020, the joint fit of Table 2 (arXiv 2001.08361)",
        ),
        "kaplan-ns": PublishedLaw(
            KaplanStepsLaw(0.077, ALPHA_S, 6.5e13, S_C, CRITICAL_BATCH),
            "non-embedding",
            "Kaplan et al. 2020, the fit of Table 3 to parameters and steps (arXiv 2001.08361)",
        ),
        "muennighoff": PublishedLaw(
            DataConstrainedLaw(
                math.exp(0.6254804),
                math.exp(6.255414),
                math.exp(7.3049974),
                0.3526596,
                0.3526596,
                15.387756,
                5.309743,
            ),
            "total",
            "Muennighoff et al. 2023, repeated data (arXiv 2305.16264)",
        ),
    }
)
"""Name of `--law` -> constants."""


def published(name: str) -> PublishedLaw:
    """Return a published law; raise UsageFault listing the names for an unknown one."""
    if name not in PUBLISHED:
        raise UsageFault(f"no law {name!r}; there are {', '.join(PUBLISHED)}")
    return PUBLISHED[name]


def chinchilla_loss(parameters: np.ndarray, n: Any, d: Any) -> Any:
    """Return E + A n^-alpha + B d^-beta. `parameters` has shape (..., 5); n, d broadcast against (...)."""
    e, a, b, alpha, beta = np.moveaxis(np.asarray(parameters, dtype=float), -1, 0)
    log_n, log_d = np.log(np.asarray(n, dtype=float)), np.log(np.asarray(d, dtype=float))
    return e + a * np.exp(-alpha * log_n) + b * np.exp(-beta * log_d)


def allocate(parameters: np.ndarray, flops: float, k: float = FLOPS_PER_ND) -> tuple[Any, Any, Any]:
    """Return (N_opt, D_opt, loss) at budget `flops` for `parameters` of shape (..., 5).

    N_opt = G (C/k)^(beta/(alpha+beta)), G = (alpha A / (beta B))^(1/(alpha+beta)), D_opt = (C/k)/N_opt
    (Hoffmann et al. 2022, eq. 4). A law with A = 0 or B = 0 has no interior optimum: N_opt is then 0 or infinite.
    """
    e, a, b, alpha, beta = np.moveaxis(np.asarray(parameters, dtype=float), -1, 0)
    nd = flops / k
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        log_g = (np.log(alpha * a) - np.log(beta * b)) / (alpha + beta)
        n = np.exp(log_g + beta / (alpha + beta) * math.log(nd))
        d = nd / n
        loss = e + a * n**-alpha + b * d**-beta
    return n, d, loss
