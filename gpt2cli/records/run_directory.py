"""A run directory: run.json, append-only metrics.jsonl and perf.jsonl, a lock, checkpoints/, manifest.json when done.

The two logs are the named exception to atomic writing: a checkpoint records the byte length of metrics.jsonl and the
sha256 of that much, and resume cuts it back to that; perf.jsonl, which tells of the clock, is cut after the
checkpoint's step.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from gpt2cli.errors import BadInput, Gpt2Error
from gpt2cli.records.checkpoint import MANIFEST, read_json, write_json, write_manifest
from gpt2cli.records.jsonl import Record, parse_line
from gpt2cli.records.locks import lock_file
from gpt2cli.records.named_file import open_named
from gpt2cli.records.schemas import refuse_newer, schema_name

RUN = "run.json"
METRICS = "metrics.jsonl"
PERF = "perf.jsonl"
CHECKPOINTS = "checkpoints"
LOCK = "lock"
_AT_ONCE = 1 << 20


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the run's lock; raise Gpt2Error naming the process that has it. A dead holder's lock is free again."""
    with lock_file(directory / LOCK) as holder:
        if holder is not None:
            raise Gpt2Error(f"{directory} is being trained by process {holder}; wait for it or choose another -o")
        yield


def is_run(directory: Path) -> bool:
    """Whether `directory` holds a run, finished or not."""
    return (directory / RUN).is_file()


def is_finished(directory: Path) -> bool:
    """Whether the run in `directory` is done."""
    return (directory / MANIFEST).is_file()


def read_run(directory: Path) -> Record:
    """Return run.json; raise BadInput when it is damaged."""
    record = read_json(directory / RUN)
    refuse_newer(record.get("schema"), schema_name("gpt2.run"), str(directory / RUN))
    if record.get("schema") != schema_name("gpt2.run") or not isinstance(record.get("config"), dict):
        raise BadInput(f"{directory / RUN} is no {schema_name('gpt2.run')} record")
    return record


def write_run(directory: Path, fields: Record) -> None:
    """Write run.json."""
    write_json(directory / RUN, {"schema": schema_name("gpt2.run"), **fields})


def finish(directory: Path, fields: dict[str, Any], checkpoint: Path) -> None:
    """Write the run's manifest.json: the last act of a run, and make's target."""
    relative = checkpoint.relative_to(directory)
    names = [RUN, METRICS, str(relative / MANIFEST), str(relative / "model.safetensors")]
    write_manifest(directory, "gpt2.checkpoint", {**fields, "checkpoint": str(relative)}, names)


def length_up_to_step(path: Path, step: int) -> int:
    """Return how many bytes of a log hold whole records of steps up to `step`; 0 when there is no log."""
    if not path.is_file():
        return 0
    length = 0
    with open_named(path) as file:
        for line in file:
            if not line.endswith(b"\n") or parse_line(line, str(path)).get("step", 0) > step:
                break
            length += len(line)
    return length


def digest_of_log(path: Path, length: int, sha256: str | None) -> hashlib._Hash:
    """Return the running sha256 of a log's first `length` bytes, after which a checkpoint was written.

    Raises BadInput when there are fewer, or when they are others than those of `sha256` (None: of a checkpoint of an
    earlier version, which tells the length alone); OSError from the file system.
    """
    digest, left = hashlib.sha256(), length
    with open_named(path) as file:
        have = os.fstat(file.fileno()).st_size
        while left and (data := file.read(min(left, _AT_ONCE))):
            digest.update(data)
            left -= len(data)
    if left:
        raise BadInput(f"{path} has {have} bytes, its checkpoint was written after {length}; it was cut since")
    if sha256 is not None and digest.hexdigest() != sha256:
        raise BadInput(f"{path} is damaged: its first {length} bytes are not those that its checkpoint was written "
                       "after")
    return digest


class AppendLog:
    """An append-only JSONL log that can be cut back to a recorded length; lines may be copied to a second place."""

    def __init__(self, path: Path, copy: Callable[[bytes], None] | None = None) -> None:
        """Open `path` to append to, making it if need be; cut() before the first write().

        Raises BadInput where a named pipe, a device or a directory has its place: to open a pipe may take for ever.
        """
        if path.exists() and not path.is_file():
            raise BadInput(f"{path} is no regular file; remove it, or choose another run directory")
        self._path, self._copy = path, copy
        self._digest = hashlib.sha256()
        self._file: BinaryIO = open(path, "ab")  # noqa: SIM115

    def cut(self, length: int, sha256: str | None = None) -> None:
        """Keep the first `length` bytes; BadInput when there are fewer, or others than those of `sha256`."""
        with self._named():
            self._file.flush()
            try:
                self._digest = digest_of_log(self._path, length, sha256)
            except BadInput as error:
                raise BadInput(f"{error}; restore it from a copy, or --force starts the run anew") from None
            os.ftruncate(self._file.fileno(), length)  # file.truncate() is not tried again after a signal
            self._file.seek(length)

    def write(self, line: bytes) -> None:
        """Append one record's line."""
        with self._named():
            self._file.write(line)
            self._file.flush()
        self._digest.update(line)
        if self._copy is not None:
            self._copy(line)

    def sync(self) -> tuple[int, str]:
        """Bring all lines to disk and return the length in bytes, and the sha256 of them all."""
        with self._named():
            self._file.flush()
            os.fsync(self._file.fileno())
            return self._file.tell(), self._digest.hexdigest()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            error.filename = str(self._path)
            raise

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):  # a line that the disk did not take was write()'s to report
            self._file.close()
