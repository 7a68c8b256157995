"""Where Kaplan's laws contradict each other (2001.08361, section 6.3): the law of compute against the law of data.

Along the compute-optimal path data grow as C_min^.27 only, so the law of data L(D(C_min)) is a floor that falls more
slowly than the law of compute L(C_min). Where the two meet at least one of them must break. (It is not that equal
compute ought to give equal loss.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gpt2cli.errors import UsageFault
from gpt2cli.scaling.kaplan import PF_DAY, SEPARATE, PowerLaw, kaplan_allocation


@dataclass(frozen=True)
class Crossing:
    """The point where the laws meet: C_min in FLOP, and N, D and the loss there."""

    c_min: float
    n: float
    d: float
    loss: float

    @property
    def pf_days(self) -> float:
        """C_min in PF-days."""
        return self.c_min / PF_DAY


def crossing(compute: PowerLaw = SEPARATE["c"], data: PowerLaw = SEPARATE["d"]) -> Crossing:
    """Return where L(C_min) falls to L(D(C_min)), D as Kaplan allocates it; raise UsageFault when they never meet.

    The result hangs on small differences of exponents: the paper says so, and gives it to an order of magnitude.
    """

    def above(log_c: float) -> bool:
        c = math.exp(log_c)
        return bool(compute.value(c) > data.value(kaplan_allocation(c).d))

    low, high = math.log(1e10), math.log(1e60)
    if not above(low) or above(high):
        raise UsageFault("the law of compute and the law of data do not cross")
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if above(middle) else (low, middle)
    c = math.exp((low + high) / 2)
    path = kaplan_allocation(c)
    return Crossing(c, path.n, path.d, float(compute.value(c)))
