"""Ways to spend one budget, under one law: what loss each gives, and what budget would have given it at best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpt2cli.errors import UsageFault
from gpt2cli.scaling.kaplan import kaplan_allocation
from gpt2cli.scaling.laws import FLOPS_PER_ND, PUBLISHED, ChinchillaLaw, Surface
from gpt2cli.scaling.optimum import least_compute, optimum

RULE = 20.0
"""Tokens per parameter of the popular rule that is drawn from Hoffmann et al. 2022."""


@dataclass(frozen=True)
class Strategy:
    """One way: N and D with C = 6 N D. `least` is the budget whose best use gives the same loss (None: none does)."""

    name: str
    n: float
    d: float
    loss: float
    least: float | None

    @property
    def flops(self) -> float:
        """6 N D."""
        return FLOPS_PER_ND * self.n * self.d

    @property
    def wasted(self) -> float | None:
        """Share of the budget that the best use would not have needed."""
        return None if self.least is None else max(0.0, round(1 - self.least / self.flops, 9))


def strategies(
    law: Surface, flops: float, sizes: Sequence[float] = (), tokens_per_parameter: Sequence[float] = ()
) -> list[Strategy]:
    """Return the strategies at `flops`, lowest loss first.

    They are the law's own optimum, `sizes` with the tokens that are left, `tokens_per_parameter` D/N, and, when
    neither is given, the optima of the published Chinchilla laws, Kaplan's allocation and 20 tokens a parameter.
    Raises UsageFault for a size that the budget gives not one token.
    """
    nd = flops / FLOPS_PER_ND
    ways = [("the law's optimum", optimum(law, flops).n_opt)]
    ways += [(f"N = {size:.3g}", size) for size in sizes]
    ways += [(f"{ratio:g} tokens a parameter", (nd / ratio) ** 0.5) for ratio in tokens_per_parameter]
    if not sizes and not tokens_per_parameter:
        ways += [(f"optimum of {name}", entry.law.allocate(flops).n_opt) for name, entry in PUBLISHED.items()
                 if isinstance(entry.law, ChinchillaLaw) and entry.law != law]  # fmt: skip
        ways += [("Kaplan's allocation", kaplan_allocation(flops / 2).n)]
        ways += [(f"{RULE:g} tokens a parameter", (nd / RULE) ** 0.5)]
    found = []
    for name, n in ways:
        if nd / n < 1:
            raise UsageFault(f"{flops:.3g} FLOP pay for not one token of {n:.3g} parameters")
        loss = float(law.loss(n, nd / n))
        found.append(Strategy(name, n, nd / n, loss, least_compute(law, loss)))
    return sorted(found, key=lambda one: one.loss)
