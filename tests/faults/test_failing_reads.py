"""Every read of a command's inputs fails in turn: one sentence that names the file, status 74, nothing half-made."""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
import sys
from pathlib import Path

import pytest
from faults.failing_calls import SQLITE_WORDS, WHOLE, Faults, Stage, leftovers
from faults.stages import STAGES, TO_STDOUT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs LD_PRELOAD and /proc")
LINES = TO_STDOUT | {name: stage.arguments for name, stage in STAGES.items()}
OF_SQLITE = "state.sqlite3 is damaged (database disk image is malformed); restore it"
"""What a read that fails with EIO is to SQLite, which takes the file system for broken (SQLITE_IOERR_CORRUPTFS)."""
WORDS = (os.strerror(errno.EIO), *SQLITE_WORDS)
NAMED = re.compile(rf"gpt2 [a-z-]+: (?:warning: )?[\w./-]*\w: (?:{'|'.join(WORDS)})")
SOME = 2
"""Reads of a command that fail in an ordinary run."""


def own_copy(inputs: Path, place: Path) -> Path:
    """All inputs as files of one directory: what lies elsewhere does not fail."""
    shutil.copytree(inputs, place)
    (place / "tmp").mkdir()
    return place


@pytest.mark.parametrize("name", LINES)
def test_every_read_may_fail(name: str, faults: Faults, inputs: Path, tmp_path: Path) -> None:
    stage = Stage(LINES[name], ())
    reads = faults.run(stage, own_copy(inputs, tmp_path / "whole"))["reads"]
    every = range(1, reads + 1)
    for number in every if WHOLE else sorted(random.Random(name).sample(every, min(SOME, reads))):
        work = own_copy(inputs, tmp_path / f"work-{number}")
        done = faults.run(stage, work, number, "reads fail", errno.EIO)
        said = [line for line in done["stderr"].splitlines() if any(words in line for words in WORDS)]
        if done["status"] == 65 and OF_SQLITE in done["stderr"]:
            continue
        if done["status"] == 0 and "--work" in stage.arguments:  # a look that SQLite does without, as at the end
            assert faults.run(stage, work)["status"] == 0
            continue
        assert done["status"] == 74 and "Traceback" not in done["stderr"], (number, done["stderr"])
        assert len(said) == 1 and NAMED.match(said[0]), (number, done["stderr"])
        assert leftovers(work) == [], number
