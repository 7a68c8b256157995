"""Outputs that are whole or absent: a temporary in the same directory, fsync, rename.

Whoever writes a name that another process is writing is refused, see temporaries.py.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from gpt2cli.errors import UsageFault
from gpt2cli.records.named_file import open_named
from gpt2cli.records.temporaries import held, temporary_for


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str], *, force: bool = True) -> Iterator[BinaryIO]:
    """Yield a binary file that appears as `path`, complete and on disk, only if the block succeeds.

    A device or named pipe is written to as it is, and a symbolic link's target is what is replaced.
    Raises UsageFault when `path` exists and `force` is false, Gpt2Error when another process is writing it, OSError
    from the file system.
    """
    named = Path(path)
    if named.exists() and not named.is_file() and not named.is_dir():
        with _naming(named), open(named, "wb") as file:
            yield file  # a rename would put a file in the place of /dev/null itself
        return
    final = Path(os.path.realpath(path)) if os.path.islink(path) else named
    if not force:
        _refuse_existing(final)
    if final.is_dir():
        raise UsageFault(f"{final} is a directory; choose another -o")
    with _naming(final), temporary_for(final, directory=False) as temporary:
        try:
            with open(temporary, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if not force:
                _refuse_existing(final)
            os.replace(temporary, final)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    sync_directory(final.parent)


def _refuse_existing(final: Path) -> None:
    if final.exists():
        raise UsageFault(f"{final} exists; give --force to replace it, or another name")


@contextlib.contextmanager
def _naming(final: Path) -> Iterator[None]:
    """Let errors that name nothing, or a temporary, name `final`."""
    try:
        yield
    except OSError as error:
        if error.filename is None or Path(error.filename).name.startswith(f".{final.name}.tmp-"):
            error.filename, error.filename2 = str(final), None
        raise


@contextlib.contextmanager
def atomic_directory(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty directory that appears as `path`, every file fsynced, only if the block succeeds.

    An existing `path` is replaced. Raises Gpt2Error when another process is writing it, OSError from the file system.
    """
    final = Path(path)
    with _naming(final), temporary_for(final, directory=True) as temporary:
        try:
            yield temporary
            for directory, _, names in os.walk(temporary):
                for name in names:
                    sync_file(Path(directory) / name)
                sync_directory(Path(directory))
            _exchange(temporary, final)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    sync_directory(final.parent)


def _exchange(temporary: Path, final: Path) -> None:
    """Put a directory in the place of `final`, which is there whole until then, and again if that fails."""
    old = temporary.with_name(f"{temporary.name}-old")
    with held(final, os.getpid()):
        there = final.exists()
        try:
            if there:
                os.rename(final, old)
            os.rename(temporary, final)
            if there:
                shutil.rmtree(old)
        except BaseException:
            if there and not os.path.lexists(final):
                os.rename(old, final)
            shutil.rmtree(old, ignore_errors=True)  # a signal came meanwhile
            raise


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
    with open_named(path) as file:
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Flush a directory's entries to disk, so that a rename survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

