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
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2cli.records.run_directory import LOCK, METRICS, PERF

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
AT_REMOVAL = "kill at removal"
MANNERS = {"count": 0, "kill": 1, "once": 2, "from there on": 3, "short": 4, AT_REMOVAL: 5, "signal": 6,
           "signal twice": 7, "reads fail": 8}
FAULTS = (("kill", 0), ("once", errno.EIO), ("from there on", errno.EIO), ("from there on", errno.ENOSPC),
          ("once", errno.EINTR), ("short", 0))
WHOLE = os.environ.get("FAULTS") == "all"
"""Every call in every manner (make test-faults), or some that a seed chooses."""
TMP = "tmp"
"""$TMPDIR of the commands, in the directory where they run."""
SQLITE_WORDS = ("disk I/O error", "database or disk is full")
"""What SQLite says for the system's words, the first also where the disk is full."""


@dataclass(frozen=True)
class Stage:
    """A command, and what it makes.

    state: those of `outputs` that are directories which the next try goes on from. content: what has to be the same of
    an output. some: how many faults an ordinary run tries. sqlite: it keeps a state in SQLite, which says what failed
    in words of its own, gets by without some calls, and tries no fsync again that a signal interrupted.
    """

    arguments: tuple[str, ...]
    outputs: tuple[str, ...]
    state: tuple[str, ...] = ()
    content: Callable[[Path], bytes] = Path.read_bytes
    some: int = 3
    sqlite: bool = False


class Faults:
    """Runs commands with a fault, see fault_server.py."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, stage: Stage, directory: Path, call: int = 0, manner: str = "count", error: int = 0,
            kill_after_s: float | None = None, **around: Any) -> dict[str, Any]:
        """Return {"status", "calls", "removals", "reads", "seconds", "stderr"} of the stage in `directory`.

        Its `call`th change fails, or it is killed after so many seconds. calls, removals, reads: None if it was killed.
        error: the number of the error, or of the signal. around: see surroundings.enter.
        """
        return self._ask({"arguments": stage.arguments, "directory": str(directory), "call": call,
                          "manner": MANNERS[manner], "error": error, "kill_after_s": kill_after_s, "around": around})

    def pipeline(self, commands: Iterable[Iterable[str]], directory: Path, take: int | None) -> dict[str, Any]:
        """Return {"statuses", "stderr", "taken"} of commands that read each other, see surroundings.pipeline."""
        return self._ask({"commands": [list(command) for command in commands], "directory": str(directory),
                          "take": take})

    def _ask(self, asked: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


@contextmanager
def failing_calls(library: Path) -> Iterator[Faults]:
    """Yield a Faults, whose process lives as long as the context; `library` is where the compiled calls go."""
    compiler = next(name for name in ("cc", "gcc", "clang") if shutil.which(name))
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library,
                    HERE / "faulty_calls.c", HERE / "wrong_clock.c", "-ldl"], check=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GPT2_")}
    environment |= {"LD_PRELOAD": str(library), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([sys.executable, HERE / "fault_server.py"], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, env=environment, text=True) as process:
        try:
            yield Faults(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()


def digests(directory: Path, names: Iterable[str], content: Callable[[Path], bytes] = Path.read_bytes
            ) -> dict[str, str]:
    """Return the sha256 of every file that is one of `names` or below it, but for those that hold times and pids."""
    found = (path for name in names for path in (directory / name, *(directory / name).rglob("*")))
    return {str(path.relative_to(directory)): hashlib.sha256(content(path)).hexdigest()
            for path in sorted(set(found)) if path.is_file() and path.name not in (PERF, LOCK)}


def some_of(names: Iterable[str], number: int, seed: str) -> list[str]:
    """Return `number` of the names by a seed, in their order; all of them in a whole run."""
    every = list(names)
    picked = every if WHOLE or len(every) <= number else random.Random(seed).sample(every, number)
    return [name for name in every if name in picked]


def leftovers(directory: Path) -> list[str]:
    """Return the temporaries that lie in `directory`."""
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*")
                  if ".tmp-" in path.name or path.parent == directory / TMP)


def chosen(calls: int, removals: int, seed: str, some: int) -> Iterator[tuple[int, str, int]]:
    """Yield (call, manner, error): all of them, or some by `seed`, the last call among them."""
    every = [(call, manner, error) for call in range(1, calls + 1) for manner, error in FAULTS]
    every += [(removal, AT_REMOVAL, 0) for removal in range(1, removals + 1)]
    if WHOLE or len(every) <= some:
        yield from every
        return
    picked = random.Random(seed).sample(every, some - 1)
    yield from sorted({*picked, (calls, "kill", 0)})


class Trial:
    """A stage, what it makes when nothing fails, and what is wrong with what it makes when something does."""

    def __init__(self, stage: Stage, faults: Faults, inputs: Path, place: Path) -> None:
        """inputs: a directory, what lies in which the command finds where it runs."""
        self.stage, self._faults, self._inputs, self._place = stage, faults, inputs, place
        clean = place / "clean" / "work"
        _link_inputs(clean, inputs)
        before = digests(clean, ["."])
        self.whole = faults.run(stage, clean)
        assert self.whole["status"] == 0, self.whole["stderr"]
        self.place_of_right, self.right = clean, self._made(clean)
        assert self.right and self.right.keys().isdisjoint(before) and self.whole["calls"] >= 2 * len(stage.outputs)
        assert not leftovers(clean)
        replaced = [name for name in stage.outputs if name not in stage.state]
        self._old = place / "old"
        _make_old(clean, self._old, replaced)
        work = self.begin()
        self._older = self._made(work)
        self.over_old = faults.run(stage, work) if replaced else self.whole
        assert not replaced or self._made(work) == self.right, self.over_old["stderr"]

    def begin(self) -> Path:
        """Return a directory to run the stage in, with outputs of an earlier run that are not the right ones."""
        shutil.rmtree(self._place / "trial", ignore_errors=True)
        work = self._place / "trial" / "work"
        _link_inputs(work, self._inputs)
        shutil.copytree(self._old, work, dirs_exist_ok=True)
        return work

    def clean_files(self) -> list[Path]:
        """Return the files that a run without faults makes."""
        return [self.place_of_right / name for name in self.right]

    def wrong_now(self, work: Path, killed: bool, stuck: bool = False) -> Iterator[str]:
        """Yield what is wrong with what a command left that failed, or was killed.

        stuck: no file could be renamed any more, so that a directory that was to be replaced may not be back.
        """
        made = self._made(work)
        for name in self.stage.outputs:
            have, right, old = (_below(name, of) for of in (made, self.right, self._older))
            if name in self.stage.state:
                have = {path: sha for path, sha in have.items() if Path(path).name != METRICS and path in right}
                if have != {path: sha for path, sha in right.items() if path in have}:
                    yield f"left a file that is not right: {sorted(set(have.items()) - set(right.items()))}"
            elif have not in (right, old) and not (not have and (killed or stuck) and self._lies_aside(work, name)):
                yield f"left {name} as neither the old nor the new: {sorted(have.items() ^ right.items())}"
        left = [path for path in leftovers(work) if not (stuck and path.endswith("-old"))]
        if not killed and left:
            yield f"left temporaries: {left}"

    def is_right(self, work: Path) -> bool:
        """Whether the outputs are those of a run without faults."""
        return self._made(work) == self.right

    def wrong_again(self, work: Path) -> Iterator[str]:
        """Run the same command once more and yield what is wrong with what it comes to."""
        again = self._faults.run(self.stage, work)
        if again["status"] != 0:
            yield f"the same command ended with {again['status']}: {again['stderr'].strip()[-300:]}"
        elif not self.is_right(work):
            yield f"the same command made other files: {sorted(self._made(work).items() ^ self.right.items())}"
        if leftovers(work):
            yield f"temporaries stay: {leftovers(work)}"

    def _lies_aside(self, work: Path, name: str) -> bool:
        """Whether the old directory `name` is there whole under the name that it has while it is replaced."""
        old = _below(name, self._older)
        aside = [digests(path, ["."]) for path in work.glob(f".{name}.tmp-*-old")]
        return aside == [{path.removeprefix(f"{name}/"): sha for path, sha in old.items()}]

    def _made(self, work: Path) -> dict[str, str]:
        return digests(work, self.stage.outputs, self.stage.content)


def prove(stage: Stage, faults: Faults, inputs: Path, place: Path, name: str) -> list[str]:
    """Return what did not hold, as sentences, for a stage whose changes fail one after the other."""
    trial = Trial(stage, faults, inputs, place)
    calls, removals = trial.over_old["calls"], trial.over_old["removals"]
    wrong = []
    for call, manner, error in chosen(calls, removals, name, stage.some):
        case = f"{name}: call {call} of {calls}, {manner} {errno.errorcode.get(error, '')}".strip()
        work = trial.begin()
        first = faults.run(stage, work, call, manner, error)
        wrong += [f"{case}: {what}" for what in _one(trial, work, first, (call, manner, error))]
    return wrong


def _one(trial: Trial, work: Path, first: dict[str, Any], fault: tuple[int, str, int]) -> Iterator[str]:
    call, manner, error = fault
    reached = first["removals" if manner == AT_REMOVAL else "calls"]
    if reached is not None and reached < call:  # a stage with threads makes more calls at one time than at another
        if first["status"] != 0:
            yield f"was not disturbed, and ended with {first['status']}: {first['stderr'].strip()[-300:]}"
    else:
        yield from _judge_status(first, manner, error, trial.stage.sqlite)
    yield from trial.wrong_now(work, manner in ("kill", AT_REMOVAL), manner == "from there on" and error == errno.EIO)
    if first["status"] == 0 and not trial.is_right(work):
        yield "status 0, and the outputs are not those of a run without faults"
    yield from trial.wrong_again(work)


def _judge_status(done: dict[str, Any], manner: str, error: int, sqlite: bool) -> Iterator[str]:
    status, words = done["status"], done["stderr"].strip()
    sqlite_failed = sqlite and status == 74 and any(each in words for each in SQLITE_WORDS)
    if "Traceback" in words:
        yield f"a traceback: {words[-600:]}"
    if manner in ("kill", AT_REMOVAL):
        if status != -signal.SIGKILL:
            yield f"was not killed, but ended with {status}"
    elif manner == "short" or error == errno.EINTR:
        if status != 0 and not (error and sqlite_failed):
            yield f"ended with {status}: {words[-300:]}"
    elif status != 74 and not (status == 0 and (error == errno.ENOSPC or sqlite)):
        yield f"ended with {status}: {words[-300:]}"  # what takes no room is not refused for the lack of it
    elif status == 74 and os.strerror(error) not in words and not sqlite_failed:
        yield f"does not say what failed: {words[-300:]!r}"


def _link_inputs(work: Path, inputs: Path) -> None:
    (work / TMP).mkdir(parents=True)
    for path in inputs.iterdir():
        (work / path.name).symlink_to(path)


def _make_old(clean: Path, old: Path, names: Iterable[str]) -> None:
    """Put outputs of the same names into `old`, every file of which is another."""
    old.mkdir()
    for name in names:
        if (clean / name).is_dir():
            shutil.copytree(clean / name, old / name)
        else:
            shutil.copy(clean / name, old / name)
    for path in old.rglob("*"):
        if path.is_file():
            path.write_bytes(b"{}\n")


def _below(name: str, made: dict[str, str]) -> dict[str, str]:
    return {path: sha for path, sha in made.items() if path == name or path.startswith(f"{name}/")}
