"""A directory's disk: room, speed, and whether it keeps the promises that outputs rest on (fsync, rename, locks)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from gpt2cli.doctor.finding import Finding, binary_size
from gpt2cli.errors import os_sentence
from gpt2cli.records.temporaries import temporary_directory

TOPIC = "disk"
_BYTES = 32 << 20
_SYNCS = 9
_LITTLE, _SCARCE = 1 << 30, 16 << 20
_SLOW_SYNC_S = 0.25


def disk(directory: str, measure: bool) -> Iterator[Finding]:
    """Yield what is found of the disk that `directory` lies on; a directory of its own is made there and removed."""
    path = Path(directory)
    if not path.is_dir():
        what = "is no directory" if path.exists() else "does not exist"
        yield Finding(TOPIC, "directory", f"{directory} {what}", "bad", "name the directory that outputs go to")
        return
    yield room(str(path.resolve()), shutil.disk_usage(path).free)
    temporary = tempfile.gettempdir()
    if os.stat(temporary).st_dev != os.stat(path).st_dev:
        yield room(f"{temporary} (temporary files)", shutil.disk_usage(temporary).free)
    try:
        with temporary_directory(".gpt2-doctor", path) as scratch:
            yield _replaces(scratch)
            yield _locks(scratch)
            if measure:
                yield from _speed(scratch)
    except OSError as error:
        yield Finding(TOPIC, "writing", f"fails: {os_sentence(error)}", "bad",
                      "write elsewhere (-o), or make room or permission there")


def room(where: str, free: int) -> Finding:
    """Judge the bytes that are free at `where`."""
    said = f"{binary_size(free)} free in {where}"
    if free < _SCARCE:
        return Finding(TOPIC, "room", said, "bad", "nothing of use fits; make room")
    if free < _LITTLE:
        return Finding(TOPIC, "room", said, "note", "a checkpoint of gpt2-small is 1.5 GB, and two are kept")
    return Finding(TOPIC, "room", said)


def _replaces(scratch: Path) -> Finding:
    old, new = scratch / "old", scratch / "new"
    old.write_bytes(b"old")
    new.write_bytes(b"new")
    os.replace(new, old)
    if old.read_bytes() != b"new" or new.exists():
        return Finding(TOPIC, "rename", "does not replace a file", "bad",
                       "outputs appear by it; write to another file system")
    return Finding(TOPIC, "rename", "replaces a file at once")


def _locks(scratch: Path) -> Finding:
    with open(scratch / "lock", "wb") as first, open(scratch / "lock", "rb") as second:
        try:
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return Finding(TOPIC, "locks", f"cannot be had: {error.strerror}", "bad",
                           "training and crawls lock their directory; use another file system")
        with contextlib.suppress(OSError):
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return Finding(TOPIC, "locks", "are given to two at once", "note",
                           "nothing keeps two runs from one directory here; don't start two")
    return Finding(TOPIC, "locks", "keep a second writer away")


def _speed(scratch: Path) -> Iterator[Finding]:
    block, times = os.urandom(1 << 20), []
    with open(scratch / "data", "wb") as file:
        start = time.perf_counter()
        for _ in range(_BYTES // len(block)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        rate = _BYTES / (time.perf_counter() - start)
        yield Finding(TOPIC, "writing", f"{rate / 1e6:,.0f} MB/s with fsync")
        for _ in range(_SYNCS):
            start = time.perf_counter()
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - start)
    yield sync(statistics.median(times))


def sync(seconds: float) -> Finding:
    """Judge how long one byte takes to be on disk."""
    said = f"{seconds * 1e3:.1f} ms"
    if seconds > _SLOW_SYNC_S:
        return Finding(TOPIC, "fsync", said, "note", "every checkpoint and shard waits for some of these")
    return Finding(TOPIC, "fsync", said)
