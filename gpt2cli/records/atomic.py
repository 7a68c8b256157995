"""Outputs that are whole or absent: a temporary in the same directory, fsync, rename.

A temporary is named `.NAME.tmp-PID`. The next writer of NAME sweeps the temporaries of writers that died.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from gpt2cli.errors import UsageFault


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str], *, force: bool = True) -> Iterator[BinaryIO]:
    """Yield a binary file that appears as `path`, complete and on disk, only if the block succeeds.

    A device or named pipe is written to as it is, and a symbolic link's target is what is replaced.
    Raises UsageFault when `path` exists and `force` is false, OSError from the file system.
    """
    named = Path(path)
    if named.exists() and not named.is_file() and not named.is_dir():
        with _name_in_errors(named), open(named, "wb") as file:
            yield file  # a rename would put a file in the place of /dev/null itself
        return
    final = Path(os.path.realpath(path)) if os.path.islink(path) else named
    if not force and final.exists():
        raise UsageFault(f"{final} exists; give --force to replace it, or another name")
    if final.is_dir():
        raise UsageFault(f"{final} is a directory; choose another -o")
    _sweep(final)
    temporary = final.with_name(f".{final.name}.tmp-{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, final)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(temporary)):
            error.filename = str(final)
        raise
    sync_directory(final.parent)


@contextlib.contextmanager
def _name_in_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


@contextlib.contextmanager
def atomic_directory(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty directory that appears as `path`, every file fsynced, only if the block succeeds.

    An existing `path` is replaced. Raises OSError from the file system.
    """
    final = Path(path)
    _sweep(final)
    temporary = final.with_name(f".{final.name}.tmp-{os.getpid()}")
    try:
        temporary.mkdir()
        yield temporary
        for directory, _, names in os.walk(temporary):
            for name in names:
                sync_file(Path(directory) / name)
            sync_directory(Path(directory))
        if final.exists():
            shutil.rmtree(final)
        os.rename(temporary, final)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError) and error.filename == str(temporary):
            error.filename = str(final)
        raise
    sync_directory(final.parent)


def check_new_directory(directory: Path, force: bool, belongs: Callable[[str], bool], kind: str) -> None:
    """Raise UsageFault unless `directory` may be made: absent, empty, or, with `force`, an older one of its kind.

    belongs: whether a name is of a file that such a directory holds; `kind` says in messages what it would be.
    """
    if not directory.resolve().parent.is_dir():
        raise UsageFault(f"the directory of {directory} does not exist; make it first")
    if not os.path.lexists(directory):
        return
    if not directory.is_dir():
        raise UsageFault(f"{directory} exists and is no directory; choose another -o")
    if directory.resolve() == Path.cwd():
        raise UsageFault(f"{directory} is the current directory, which cannot be replaced; name a new one")
    names = sorted(entry.name for entry in directory.iterdir())
    strange = [name for name in names if not belongs(name)]
    if strange:
        raise UsageFault(f"{directory} holds {strange[0]!r}, which is no part of {kind}; choose another -o")
    if names and not force:
        raise UsageFault(f"{directory} exists; give --force to replace it, or another -o")


def write_atomic(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` as `path`, whole or not at all."""
    with atomic_file(path) as file:
        file.write(data)


def sync_file(path: Path) -> None:
    """Flush one file to disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Flush a directory's entries to disk, so that a rename survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sweep(final: Path) -> None:
    prefix = f".{final.name}.tmp-"
    if not final.parent.is_dir():
        return
    for stale in final.parent.iterdir():
        pid = stale.name.removeprefix(prefix)
        if not stale.name.startswith(prefix) or not pid.isdigit() or _alive(int(pid)):
            continue
        if stale.is_dir():
            shutil.rmtree(stale, ignore_errors=True)
        else:
            stale.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
