"""A clock that is a day behind or ten years ahead, from the start or from somewhere in the middle, as when a person or
NTP sets it: the same bytes, no failure, no wait.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
from faults.failing_calls import WHOLE, Faults, Trial, some_of
from faults.stages import STAGES

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs LD_PRELOAD")
DAY_S = 86_400
CLOCKS = [(seconds, readings) for seconds in (-DAY_S, 3652 * DAY_S) for readings in (0, 5, 40)]


@pytest.mark.parametrize("name", [*some_of(STAGES, 1, "clock"), *([] if WHOLE else ["fetch"])])
def test_the_clock_changes_no_byte(name: str, faults: Faults, inputs: Path, tmp_path: Path) -> None:
    trial = Trial(STAGES[name], faults, inputs, tmp_path)
    for clock in CLOCKS if WHOLE else random.Random(name).sample(CLOCKS, 2):
        work = trial.begin()
        done = faults.run(STAGES[name], work, clock=clock)
        assert done["status"] == 0 and trial.is_right(work), (clock, done)
        assert [*trial.wrong_again(work)] == [], clock  # and set right again


def test_the_shim_is_obeyed(faults: Faults, inputs: Path, tmp_path: Path) -> None:
    """Without this the test above would prove nothing: a WARC file tells when its records were made."""
    trial = Trial(STAGES["fetch"], faults, inputs, tmp_path)
    work = trial.begin()
    done = faults.run(STAGES["fetch"], work, clock=(3652 * DAY_S, 0))
    assert done["status"] == 0, done
    retrieved = [line.split('"retrieved":')[1][:5] for line in (work / "pages.jsonl").read_text().splitlines()
                 if '"retrieved":' in line]
    assert retrieved and all(when.strip('"')[:4] >= "2034" for when in retrieved), retrieved
