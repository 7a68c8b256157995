"""What a whole crawl remembers under WORK/steps: which tasks of its steps are finished, and what came of them.

A task's outputs appear under their names when they are complete, and NAME.done.json after them. It counts as finished
while that file names the same identity (inputs, options, version) and the outputs are there in their full size. So a
task that was killed is done again from its beginning, a finished one never, and other options redo only what they
change, whoever does it: this process, or another machine that sees the same directory.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import ipaddress
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO, cast

import gpt2cli
from gpt2cli.errors import BadInput
from gpt2cli.records.atomic import write_atomic
from gpt2cli.records.jsonl import RecordWriter, parse_line
from gpt2cli.records.named_file import read_named
from gpt2cli.records.streams import open_output
from gpt2cli.reporter import Reporter
from gpt2cli.webtext.tally import StepTally

CHANGES_NOTHING = frozenset({"work", "workers", "jobs", "concurrency", "memory", "body_memory"})
"""Fields of configurations that no byte of the documents depends on."""
_PARSERS = ("trafilatura", "resiliparse", "pycld2", "tiktoken")
"""Packages whose version is part of what "the same" means."""
_DIGEST = 16


@dataclass(frozen=True)
class Output:
    """A file that a task made: its name under WORK/steps, bytes on disk, records, and a digest of what is in it."""

    name: str
    size: int
    records: int
    digest: str


@dataclass(frozen=True)
class Finished:
    """What a finished task came to: its outputs, its counts, and its rejects file when one was asked for."""

    name: str
    step: str
    identity: str
    outputs: tuple[Output, ...]
    read: int
    kept: int
    dropped: Mapping[str, int]
    rejects: str | None

    def as_json(self) -> bytes:
        """Return the text of the done file; it ends with a digest of the rest."""
        fields = dataclasses.asdict(self)
        return json.dumps({**fields, "check": _check(fields)}, indent=1).encode() + b"\n"

    def paths(self, place: Path) -> tuple[Path, ...]:
        """Return where the outputs are."""
        return tuple(place / output.name for output in self.outputs)

    @property
    def digests(self) -> tuple[str, ...]:
        """Return the digests of the outputs."""
        return tuple(output.digest for output in self.outputs)

    @property
    def records(self) -> int:
        """Return how many records the outputs hold."""
        return sum(output.records for output in self.outputs)


class Desk:
    """What a task works with: the directory, its counts, a reporter, and files that are known as its outputs."""

    def __init__(self, place: Path, name: str, identity: str, tally: StepTally, reporter: Reporter) -> None:
        self.place = place
        self.tally = tally
        self.reporter = reporter
        self.outputs: list[Output] = []
        self._name = name
        self._identity = identity

    @contextlib.contextmanager
    def records(self, ending: str = "") -> Iterator[RecordWriter]:
        """Yield the writer of NAME + ending + .jsonl.zst, which is there when the block succeeds."""
        path = self.place / f"{self._name}{ending}.jsonl.zst"
        with open_output(path) as stream:
            digested = _Digested(stream)
            writer = RecordWriter(cast(BinaryIO, digested))
            yield writer
        self.outputs.append(Output(path.name, path.stat().st_size, writer.count, digested.hexdigest()))

    @contextlib.contextmanager
    def binary(self, ending: str) -> Iterator[BinaryIO]:
        """Yield the file NAME + ending for something else than records."""
        path = self.place / f"{self._name}{ending}"
        with open_output(path, as_is=True) as stream:
            yield stream
        self.outputs.append(Output(path.name, path.stat().st_size, 0, self._identity))


class _Digested:
    """A stream that digests what passes."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = hashlib.blake2b(digest_size=_DIGEST)

    def write(self, data: bytes) -> int:
        self._digest.update(data)
        return self._stream.write(data)

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


@dataclass(frozen=True)
class Task:
    """A piece of a step. `basis` is all that its outputs depend on, None for a stream that can't be known again.

    work: called with a Desk, must be picklable: another machine may do it. here: only this process can.
    """

    step: str
    name: str
    basis: tuple[Any, ...] | None
    work: Callable[[Desk], None] = field(compare=False)
    here: bool = False

    @property
    def identity(self) -> str:
        """Return the digest of the basis, this program's version and those of its parsers."""
        known = [gpt2cli.__version__, _versions(), self.step, None if self.basis is None else plain(self.basis)]
        return hashlib.blake2b(json.dumps(known, sort_keys=True).encode(), digest_size=_DIGEST).hexdigest()


def perform(task: Task, place: Path, with_rejects: bool, reporter: Reporter) -> Finished:
    """Do a task and put on disk that it is done; its gpt2.reject/1 go to NAME.rejects.jsonl.zst where they are wanted.

    What an earlier run left of the task is removed first. Raises what the work raises.
    """
    _forget(task, place)
    rejects = f"{task.name}.rejects.jsonl.zst" if with_rejects else None
    with contextlib.ExitStack() as stack:
        dropped = RecordWriter(stack.enter_context(open_output(place / rejects))) if rejects is not None else None
        tally = StepTally(task.step, dropped)
        desk = Desk(place, task.name, task.identity, tally, reporter)
        task.work(desk)
    done = Finished(task.name, task.step, task.identity, tuple(desk.outputs), tally.read, tally.kept,
                    dict(sorted(tally.dropped.items())), rejects)
    write_atomic(_path(task, place), done.as_json())
    return done


def find_finished(task: Task, place: Path, with_rejects: bool) -> Finished | None:
    """Return what an earlier run finished of the task; None when it is to be done (also for the lack of rejects)."""
    if task.basis is None:
        return None
    done = _read(_path(task, place))
    if done is None or done.identity != task.identity or (with_rejects and done.rejects is None):
        return None
    for output in done.outputs:
        if not _has_size(place / output.name, output.size):
            return None
    return None if done.rejects is not None and with_rejects and not (place / done.rejects).is_file() else done


def plain(value: Any) -> Any:
    """Return JSON of a configuration, the same in every process; fields of CHANGES_NOTHING are left out.

    Raises TypeError for a value whose text might differ from one process to the next.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {one.name: plain(getattr(value, one.name)) for one in dataclasses.fields(value)
                if one.name not in CHANGES_NOTHING}
    if isinstance(value, Mapping):
        return {str(name): plain(entry) for name, entry in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(json.dumps(plain(entry), sort_keys=True) for entry in value)
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, os.PathLike | ipaddress.IPv4Network | ipaddress.IPv6Network):
        return str(value)
    if isinstance(value, functools.partial):
        return [plain(value.func), plain(value.args), plain(value.keywords)]
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    raise TypeError(f"{type(value).__name__} is no part of a configuration that can be compared")


@functools.cache
def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in _PARSERS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def done_name(task: str) -> str:
    """Return the name of the file that says that a task is done."""
    return f"{task}.done.json"


def _check(fields: Mapping[str, Any]) -> str:
    """Return the digest of a done file's fields."""
    return hashlib.blake2b(json.dumps(fields, sort_keys=True).encode(), digest_size=_DIGEST).hexdigest()


def _path(task: Task, place: Path) -> Path:
    return place / done_name(task.name)


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def _forget(task: Task, place: Path) -> None:
    path = _path(task, place)
    old = _read(path)
    path.unlink(missing_ok=True)  # first: without it nothing counts
    for name in [*(output.name for output in old.outputs), old.rejects] if old is not None else ():
        if name is not None:
            (place / name).unlink(missing_ok=True)


def _read(path: Path) -> Finished | None:
    """Return what a done file says; None when there is none or it is damaged, so that the task is done again."""
    try:
        fields = parse_line(read_named(path), str(path))
        if fields.pop("check") != _check(fields):
            return None
        outputs = tuple(Output(str(one["name"]), int(one["size"]), int(one["records"]), str(one["digest"]))
                        for one in fields["outputs"])
        rejects = fields["rejects"]
        if any(Path(name).name != name for name in [*(one.name for one in outputs), *([rejects] if rejects else [])]):
            return None
        return Finished(str(fields["name"]), str(fields["step"]), str(fields["identity"]), outputs,
                        int(fields["read"]), int(fields["kept"]),
                        {str(name): int(count) for name, count in fields["dropped"].items()}, rejects)
    except (FileNotFoundError, BadInput, KeyError, TypeError, ValueError, AttributeError):
        return None
