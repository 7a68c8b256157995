"""gpt2 train by several forked ranks: started, waited for, and what it leaves read back."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rank_processes import free_port, start_rank, store_that_outlives_ranks

from gpt2cli.cli import main

TINY = ("--layers", 2, "--embd", 32, "--heads", 2, "--context", 64, "--batch-tokens", 1024, "--micro-batch", 3,
        "--dtype", "fp32", "--threads", 1, "--lr", 1e-2)


class Ended:
    """How every rank of a command ended, and what it said."""

    def __init__(self, directory: Path, statuses: list[int]) -> None:
        self.statuses = statuses
        ranks = range(len(statuses))
        self.out = [(directory / f"stdout-{rank}").read_bytes() for rank in ranks]
        self.err = [(directory / f"stderr-{rank}").read_text() for rank in ranks]


@contextlib.contextmanager
def started(world: int, arguments: tuple[object, ...], directory: Path) -> Iterator[list[int]]:
    """Yield the process ids of the ranks of a command, whose streams go to `directory`."""
    def body() -> int:
        sys.argv = ["gpt2", *map(str, arguments)]
        try:
            main.entry()
        except SystemExit as stop:
            return int(stop.code or 0)

    directory.mkdir(exist_ok=True)
    port = free_port()
    with store_that_outlives_ranks(
            port, lambda: [start_rank(body, rank, world, port, directory) for rank in range(world)]) as pids:
        yield pids


def ended(pids: list[int], directory: Path) -> Ended:
    """Wait for all ranks."""
    return Ended(directory, [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids])


def trained(world: int, shards: Path, run: Path, *options: object, check: bool = True) -> Ended:
    """Train on so many ranks, to the end; check=True: every rank ends with 0."""
    streams = run.with_name(f"{run.name}-streams")
    with started(world, ("train", shards, *TINY, "-o", run, *options), streams) as pids:
        found = ended(pids, streams)
    assert not check or found.statuses == [0] * world, found.err
    return found


def records(run: Path, kind: str) -> list[dict[str, Any]]:
    """Return the records of a kind in a run's metrics."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_bytes().splitlines()]
    return [line for line in lines if line["schema"].startswith(f"{kind}/")]


def files(run: Path) -> dict[str, bytes]:
    """All that a run leaves, but what has a clock or a process id in it."""
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*")
            if path.is_file() and path.name not in ("perf.jsonl", "lock")}


def last_files(run: Path) -> dict[str, bytes]:
    """files(), and of the checkpoints the last alone: where a run was stopped there is one more."""
    last = max(path.name for path in (run / "checkpoints").iterdir())
    return {name: data for name, data in files(run).items()
            if not name.startswith("checkpoints/") or name.startswith(f"checkpoints/{last}/")}


def wait_for_step(run: Path, step: int) -> None:
    """Return once the metrics have a step from `step` on."""
    deadline = time.monotonic() + 60
    while not (run / "metrics.jsonl").is_file() or len(records(run, "gpt2.step")) < step:
        assert time.monotonic() < deadline
        time.sleep(0.01)
