"""Where dedup keeps what doesn't fit in memory: a directory of this run, swept by the next one if this one is killed.

With a work directory, DIR/dedup also keeps what a run that was stopped had finished; a run that ends well removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from gpt2cli.errors import BadInput, UsageFault

_PREFIX = "gpt2-dedup-"
_HELD: set[int] = set()


def _let_go() -> None:
    """Close the locks that a worker inherits: it may outlive a killed parent for a moment, whose lock must be free."""
    for descriptor in _HELD:
        os.close(descriptor)
    _HELD.clear()


os.register_at_fork(after_in_child=_let_go)


@contextlib.contextmanager
def temporary_space() -> Iterator[Path]:
    """Yield a new directory under $TMPDIR, deleted afterwards; those of runs that were killed are deleted now."""
    parent = Path(tempfile.gettempdir())
    for place in parent.glob(_PREFIX + "*"):
        with contextlib.suppress(OSError):
            if place.stat().st_uid == os.getuid():
                with _locked(place) as ours:
                    if ours:
                        shutil.rmtree(place, ignore_errors=True)
    with contextlib.ExitStack() as stack:
        while True:
            path = Path(tempfile.mkdtemp(prefix=_PREFIX))
            with contextlib.suppress(FileNotFoundError):
                if stack.enter_context(_locked(path)):
                    break  # else another run took it for a dead one's, and deletes it
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def work_space(work: Path) -> Iterator[tuple[Path, Path]]:
    """Yield (scratch, state), directories under work/dedup: an empty one, and one that lasts until a run ends well.

    Raises UsageFault while another dedup uses `work`.
    """
    place = work / "dedup"
    place.mkdir(parents=True, exist_ok=True)
    with _locked(place) as held:
        if not held:
            raise UsageFault(f"{place} is in use by another dedup; wait for it, or give another --work")
        scratch, state = place / "scratch", place / "state"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        state.mkdir(exist_ok=True)
        try:
            yield scratch, state
        except BadInput:
            shutil.rmtree(state, ignore_errors=True)  # perhaps an input changed unseen: what is known of it is void
            raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[bool]:
    """Yield whether this process holds the directory now: nobody else does, and it is still there."""
    descriptor = os.open(directory, os.O_RDONLY)
    _HELD.add(descriptor)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            there = os.path.exists(directory) and os.path.samestat(os.stat(directory), os.fstat(descriptor))
        except BlockingIOError:
            there = False
        yield there
    finally:
        _HELD.discard(descriptor)
        os.close(descriptor)
