"""Every write, fsync and rename of every stage fails, or is where the process dies, as at every removal of a file: what
has the name of an output is the old one or the new one, whole; there is one sentence and 74; and the same command again
makes the bytes of a run without faults and leaves no temporary.

Some calls of each stage, chosen by a seed; `make test-faults` takes them all.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from faults.failing_calls import Faults, prove
from faults.stages import STAGES


@pytest.mark.skipif(sys.platform != "linux", reason="needs LD_PRELOAD and /proc")
@pytest.mark.parametrize("name", STAGES)
def test_every_change_of_a_file_may_fail(name: str, faults: Faults, inputs: Path, tmp_path: Path) -> None:
    assert prove(STAGES[name], faults, inputs, tmp_path, name) == []
