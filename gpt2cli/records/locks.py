"""Locks that end with the process that holds them, however it ends: no worker that outlives it keeps one."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

_HELD: set[int] = set()
"""Descriptors that may hold a lock of this process."""


def _let_go() -> None:
    while _HELD:
        os.close(_HELD.pop())


os.register_at_fork(after_in_child=_let_go)


@contextlib.contextmanager
def opened(path: Path, flags: int) -> Iterator[int]:
    """Yield a descriptor to lock; workers forked meanwhile don't inherit it. Raises OSError."""
    descriptor = os.open(path, flags, 0o666)
    _HELD.add(descriptor)
    try:
        yield descriptor
    finally:
        if descriptor in _HELD:
            _HELD.remove(descriptor)
            os.close(descriptor)


@contextlib.contextmanager
def lock_file(path: Path) -> Iterator[str | None]:
    """Hold the lock of the file `path`, made if need be, with this process's number in it, and yield None.

    While another process holds it, its number is yielded instead. Raises OSError, also where there are no locks.
    """
    with opened(path, os.O_RDWR | os.O_CREAT) as descriptor:
        yield _take(descriptor, path)


def _take(descriptor: int, path: Path) -> str | None:
    """Lock `path`, open as `descriptor`, and write our number; return whose the lock is when it is another's."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        return holder if holder.isdigit() else "unknown"
    except OSError as error:
        error.filename = str(path)
        raise
    return None
