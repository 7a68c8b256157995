"""Two writers of one output: the second is refused, naming the process that has it; a dead one's lock is free again."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from faults.failing_calls import Faults, Stage, Trial, some_of
from faults.stages import STAGES

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs LD_PRELOAD")
LOCKS = {"fetch": "web/lock", "crawl": "web/steps/lock", "train": "run/lock", "dedup": "state/dedup"}
"""Of the stages that work in a directory which they keep."""


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock of `path`, as this process."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def temporaries(trial: Trial, work: Path) -> list[Path]:
    """Make what a writer of each output, this process, would have there now; a file where there was nothing yet."""
    made = []
    for name in trial.stage.outputs:
        if name not in trial.stage.state:
            made.append(work / f".{name}.tmp-{os.getpid()}")
            made[-1].mkdir() if (work / name).is_dir() else made[-1].write_bytes(b"half")
    return made


@pytest.mark.parametrize("name", some_of([name for name, stage in STAGES.items() if not stage.state], 2, "writers"))
def test_the_second_writer_of_an_output(name: str, faults: Faults, inputs: Path, tmp_path: Path) -> None:
    stage = STAGES[name]
    trial = Trial(stage, faults, inputs, tmp_path)
    for number in range(len(stage.outputs)):
        work = trial.begin()
        lock = temporaries(trial, work)[number]
        with held(lock):
            done = faults.run(stage, work)
            assert done["status"] == 1, done
            assert f"{stage.outputs[number]} is being written by process {os.getpid()}; wait for it" in done["stderr"]
            assert lock.exists()
        assert [*trial.wrong_again(work)] == []  # which sweeps what nobody holds any more


@pytest.mark.parametrize("name", LOCKS)
def test_the_second_in_a_directory_of_work(name: str, faults: Faults, work: Path) -> None:
    lock = work / LOCKS[name]
    lock.parent.mkdir(parents=True)
    if name == "dedup":
        lock.mkdir()
    (lock / "holder" if name == "dedup" else lock).write_text(f"{os.getpid()}\n")
    stage = STAGES[name]
    with held(lock):
        done = faults.run(stage, work)
        assert done["status"] in (1, 2) and f"process {os.getpid()}; wait for it" in done["stderr"], done
        assert not any((work / output).is_file() for output in stage.outputs)
    assert faults.run(stage, work)["status"] == 0


def test_two_names_of_one_file_are_one_output(faults: Faults, work: Path) -> None:
    arguments = ("webtext-scrape", "filter", "docs.jsonl.zst", "-o", "kept.jsonl", "--rejects", "./kept.jsonl")
    done = faults.run(Stage(arguments, ()), work)
    assert (done["status"], "./kept.jsonl is given for two outputs" in done["stderr"]) == (2, True), done
