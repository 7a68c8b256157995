"""Where dedup keeps what doesn't fit in memory: a directory of this run, swept by the next one if this one is killed.

With a work directory, DIR/dedup also keeps what a run that was stopped had finished; a run that ends well removes it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.records.temporaries import held, temporary_directory

_HOLDER = "holder"


def temporary_space() -> contextlib.AbstractContextManager[Path]:
    """Yield a new directory under $TMPDIR, deleted afterwards; those of runs that were killed are deleted now."""
    return temporary_directory("gpt2-dedup")


@contextlib.contextmanager
def work_space(work: Path) -> Iterator[tuple[Path, Path]]:
    """Yield (scratch, state), directories under work/dedup: an empty one, and one that lasts until a run ends well.

    Raises UsageFault while another dedup uses `work`.
    """
    place = work / "dedup"
    place.mkdir(parents=True, exist_ok=True)
    with held(place, os.getpid()) as ours:
        if not ours:
            raise UsageFault(f"{place} is in use by another dedup, process {_holder(place)}; wait for it, or give "
                             "another --work")
        (place / _HOLDER).write_text(f"{os.getpid()}\n")
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


def _holder(place: Path) -> str:
    try:
        number = (place / _HOLDER).read_text("ascii", "replace").strip()
    except OSError:
        number = ""
    return number if number.isdigit() else "unknown"
