"""The manual's "Where popular summaries differ": every number in it is computed from the laws themselves."""

from __future__ import annotations

import re

import manpages
import pytest

from gpt2cli.scaling.kaplan import CRITICAL_BATCH, PF_DAY, SEPARATE, kaplan_allocation
from gpt2cli.scaling.laws import published
from gpt2cli.scaling.optimum import optimum

PAGE = manpages.MAN / "man1" / "gpt2-fit-scaling.1"
SECTION = re.sub(r"\s+", " ", manpages.plain(manpages.sections(PAGE)["WHERE POPULAR SUMMARIES DIFFER"]))


def percent(variable: str) -> float:
    law = SEPARATE[variable]
    return float(100 * (1 - law.value(1e21) / law.value(1e20)))


def billions(name: str) -> str:
    return f"{optimum(published(name).law, 5.76e23).n_opt / 1e9:.1f}B"


@pytest.mark.parametrize(
    "said",
    [
        f"By {percent('n'):.1f} %",
        f"ten times the compute by {percent('c'):.1f} %",
        "{:.2e}, {:.2e} and {:.2e} tokens at L = 4, 3 and 2".format(*(CRITICAL_BATCH.at(loss) for loss in (4, 3, 2)))
        .replace("e+0", "e"),
        f"One PF-day is {PF_DAY:.2e} FLOP".replace("e+", "e"),
        "D >~ 5e3 N^0.74",
        f"This spends {600 * 0.3e9 * 3.2e9 / PF_DAY:.1f} % of the budget",
        f"Kaplan's are N = {kaplan_allocation(PF_DAY).n / 1e9:.1f}e9 C^0.73 and "
        f"D = {kaplan_allocation(PF_DAY).d / 1e10:.0f}e10 C^0.27",
        f"{published('kaplan-t5').law.loss(175e9, 300e9):.3f} by Table 5 or "
        f"{published('kaplan-t2').law.loss(175e9, 300e9):.3f} by Table 2",
        f"it used {6 * 175e9 * 300e9 / PF_DAY:,.0f} PF-days",
        "Without the log 2",
        "33B to 72B",
        f"from {billions('hoffmann-unrounded')} to {billions('hoffmann')} parameters, and a replication gets "
        f"{billions('besiroglu')}",
    ],
)  # fmt: skip
def test_manual_says_what_the_laws_say(said: str) -> None:
    assert said in SECTION


def test_ten_times_the_data() -> None:
    assert percent("d") == pytest.approx(19.7, abs=0.06) and "ten times the data by 19.7 %" in SECTION
