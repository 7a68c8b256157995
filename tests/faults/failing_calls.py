"""Every change that a command makes to files, made to fail in turn: what is left, and what the next try makes of it."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2cli.records.run_directory import LOCK, PERF

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MANNERS = {"count": 0, "kill": 1, "once": 2, "from there on": 3, "short": 4}
FAULTS = (("kill", 0), ("once", errno.EIO), ("from there on", errno.EIO), ("from there on", errno.ENOSPC),
          ("once", errno.EINTR), ("short", 0))
WHOLE = os.environ.get("FAULTS") == "all"
"""Every call in every manner (make test-faults), or some that a seed chooses."""
SOME = 7


@dataclass(frozen=True)
class Stage:
    """A command, and what it makes; `state` of it is a directory that the next try goes on from."""

    arguments: tuple[str, ...]
    outputs: tuple[str, ...]
    state: tuple[str, ...] = ()


class Faults:
    """Runs commands with a fault, see fault_server.py."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, stage: Stage, directory: Path, call: int = 0, manner: str = "count",
            error: int = 0) -> dict[str, Any]:
        """Return {"status", "calls", "stderr"} of the stage in `directory` with its `call`th change failing."""
        assert self._process.stdin is not None and self._process.stdout is not None
        asked = {"arguments": stage.arguments, "directory": str(directory), "call": call, "manner": MANNERS[manner],
                 "error": error}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


@contextmanager
def failing_calls(library: Path) -> Iterator[Faults]:
    """Yield a Faults, whose process lives as long as the context; `library` is where the compiled calls go."""
    compiler = next(name for name in ("cc", "gcc", "clang") if shutil.which(name))
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library,
                    HERE / "faulty_calls.c", "-ldl"], check=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GPT2_")}
    environment |= {"LD_PRELOAD": str(library), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([sys.executable, HERE / "fault_server.py"], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, env=environment, text=True) as process:
        try:
            yield Faults(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()


def digests(directory: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the sha256 of every file that is one of `names` or below it, but for those that hold times and pids."""
    found = (path for name in names for path in (directory / name, *(directory / name).rglob("*")))
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(set(found)) if path.is_file() and path.name not in (PERF, LOCK)}


def leftovers(directory: Path) -> list[str]:
    """Return the temporaries that lie in `directory`."""
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if ".tmp-" in path.name)


def chosen(calls: int, seed: str) -> Iterator[tuple[int, str, int]]:
    """Yield (call, manner, error): all of them, or some by `seed`, the last call among them."""
    every = [(call, manner, error) for call in range(1, calls + 1) for manner, error in FAULTS]
    if WHOLE or len(every) <= SOME:
        yield from every
        return
    picked = random.Random(seed).sample(every, SOME - 1)
    yield from sorted({*picked, (calls, "kill", 0)})


def prove(stage: Stage, faults: Faults, inputs: Path, place: Path, name: str) -> list[str]:
    """Return what did not hold, as sentences, for a stage whose changes fail one after the other.

    inputs: a directory, what lies in which the command finds where it runs.
    """
    clean = place / "clean" / "work"
    _begin(clean, inputs)
    before = digests(clean, ["."])
    whole = faults.run(stage, clean)
    assert whole["status"] == 0, whole["stderr"]
    right = digests(clean, stage.outputs)
    assert right and right.keys().isdisjoint(before) and whole["calls"] >= 2 * len(stage.outputs)
    wrong = []
    for call, manner, error in chosen(whole["calls"], name):
        case = f"{name}: call {call} of {whole['calls']}, {manner} {errno.errorcode.get(error, '')}".strip()
        work = place / "trial" / "work"
        _begin(work, inputs)
        wrong += [f"{case}: {what}" for what in _one(stage, faults, work, right, (call, manner, error))]
        shutil.rmtree(place / "trial")
    return wrong


def _begin(work: Path, inputs: Path) -> None:
    work.mkdir(parents=True)
    for path in inputs.iterdir():
        (work / path.name).symlink_to(path)


def _one(stage: Stage, faults: Faults, work: Path, right: dict[str, str], fault: tuple[int, str, int]) -> Iterator[str]:
    call, manner, error = fault
    first = faults.run(stage, work, call, manner, error)
    yield from _judge_status(first, manner, error)
    final = [name for name in stage.outputs if name not in stage.state]
    left = digests(work, final)
    if left != {name: sha for name, sha in right.items() if name in left}:
        yield f"left a file that is not right: {sorted(set(left.items()) - set(right.items()))}"
    if first["status"] == 0 and digests(work, stage.outputs) != right:
        yield "status 0, and the outputs are not those of a run without faults"
    if manner != "kill" and leftovers(work):
        yield f"left temporaries: {leftovers(work)}"
    again = faults.run(stage, work)
    if again["status"] != 0:
        yield f"the same command ended with {again['status']}: {again['stderr'].strip()[-300:]}"
    elif digests(work, stage.outputs) != right:
        made = digests(work, stage.outputs)
        yield f"the same command made other files: {sorted(name for name, _ in made.items() ^ right.items())}"
    if leftovers(work):
        yield f"temporaries stay: {leftovers(work)}"


def _judge_status(done: dict[str, Any], manner: str, error: int) -> Iterator[str]:
    status, words = done["status"], done["stderr"].strip()
    if "Traceback" in words:
        yield f"a traceback: {words[-600:]}"
    if manner == "kill":
        if status != -signal.SIGKILL:
            yield f"was not killed, but ended with {status}"
    elif manner == "short" or error == errno.EINTR:
        if status != 0:
            yield f"ended with {status}: {words[-300:]}"
    elif status != 74 and not (status == 0 and error == errno.ENOSPC):  # what takes no room is not refused for it
        yield f"ended with {status}: {words[-300:]}"
    elif status == 74 and os.strerror(error) not in words:
        yield f"does not say what failed: {words[-300:]!r}"
