"""Temporaries beside the outputs they become: each held by its writer's lock, those of dead writers swept.

One is named `.NAME.tmp-PID`; what a directory replaces lies as `.NAME.tmp-PID-old` for the moment of the exchange. The
lock, not the number, says whether its writer lives: numbers are given again, and mean nothing in another container.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from gpt2cli.errors import Gpt2Error
from gpt2cli.records.locks import opened


@contextlib.contextmanager
def temporary_for(final: Path, *, directory: bool) -> Iterator[Path]:
    """Yield an empty file or directory beside `final`, this process's while the block runs; it is not removed after.

    Temporaries of writers of `final` that died are removed first. Raises Gpt2Error naming the process of one that
    lives, OSError from the file system.
    """
    sweep(final)
    temporary = final.with_name(f".{final.name}.tmp-{os.getpid()}")
    while True:
        try:
            if directory:
                temporary.mkdir()
            else:
                os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        except FileExistsError:
            raise _being_written(final, os.getpid()) from None
        with held(temporary, os.getpid()) as ours:
            if ours:
                yield temporary
                return
        # else another writer took it for a dead one's, and removes it


def sweep(final: Path) -> None:
    """Remove the temporaries of writers of `final` that died; give back what one of them was about to replace.

    Raises Gpt2Error naming the process of a writer that lives.
    """
    if not final.parent.is_dir():
        return
    name = re.compile(rf"\.{re.escape(final.name)}\.tmp-([0-9]+)(-old)?")
    for stale in sorted(final.parent.iterdir()):
        match = name.fullmatch(stale.name)
        if match is None or stale.is_symlink():
            continue
        with contextlib.suppress(PermissionError, FileNotFoundError), held(stale, int(match[1])) as ours:
            if ours is None:
                raise _being_written(final, int(match[1]))
            if not ours:
                continue
            if match[2] and not os.path.lexists(final):
                os.rename(stale, final)
            elif stale.is_dir():
                shutil.rmtree(stale, ignore_errors=True)
            else:
                stale.unlink(missing_ok=True)


def sweep_all(directory: Path) -> None:
    """As sweep(), of every name in `directory`, for one in which only this process writes now."""
    name = re.compile(r"\.(.+)\.tmp-[0-9]+(-old)?")
    for final in {match[1] for match in map(name.fullmatch, os.listdir(directory)) if match}:
        sweep(directory / final)


@contextlib.contextmanager
def held(path: Path, process: int) -> Iterator[bool | None]:
    """Yield whether this process holds the lock of `path`: None, another does; False, it is there no longer.

    process: whose name it bears, which decides where the file system knows no locks. Raises OSError.
    """
    with contextlib.ExitStack() as stack:
        try:
            descriptor = stack.enter_context(_opened(path))
        except FileNotFoundError:
            yield False
            return
        ours: bool | None = True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            ours = None
        except OSError:
            ours = None if process != os.getpid() and _lives(process) else True
        if ours:
            with contextlib.suppress(FileNotFoundError):
                ours = False
                ours = os.path.samestat(os.lstat(path), os.fstat(descriptor))
        yield ours


def _opened(path: Path) -> contextlib.AbstractContextManager[int]:
    """Open a file or directory to lock it; NFS locks nothing that is open only for reading."""
    writable = not path.is_dir() and os.access(path, os.R_OK | os.W_OK)
    return opened(path, os.O_NOFOLLOW | os.O_NONBLOCK | (os.O_RDWR if writable else os.O_RDONLY))


@contextlib.contextmanager
def temporary_directory(prefix: str, parent: Path | None = None) -> Iterator[Path]:
    """Yield a new directory PREFIX-PID-... in `parent` ($TMPDIR), removed afterwards; those of dead writers are now.

    Raises OSError from the file system.
    """
    place = parent or Path(tempfile.gettempdir())
    for stale in place.glob(f"{prefix}-*-*"):
        number = stale.name.removeprefix(f"{prefix}-").partition("-")[0]
        with contextlib.suppress(OSError):
            if number.isdigit() and stale.lstat().st_uid == os.getuid() and not stale.is_symlink():
                with held(stale, int(number)) as ours:
                    if ours:
                        shutil.rmtree(stale, ignore_errors=True)
    while True:
        path = Path(tempfile.mkdtemp(prefix=f"{prefix}-{os.getpid()}-", dir=place))
        with held(path, os.getpid()) as ours:
            if ours:  # else another process took it for a dead one's, and removes it
                try:
                    yield path
                finally:
                    shutil.rmtree(path, ignore_errors=True)
                return


def _being_written(final: Path, process: int) -> Gpt2Error:
    return Gpt2Error(f"{final} is being written by process {process}; wait for it, or choose another output")


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
