"""One crawl at a time in a work directory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from gpt2cli.errors import UsageFault
from gpt2cli.records.locks import lock_file

LOCK = "lock"


@contextlib.contextmanager
def lock_work(work: Path) -> Iterator[None]:
    """Hold `work` (made if missing) for this process. Raises UsageFault while another scrape holds it."""
    work.mkdir(parents=True, exist_ok=True)
    with held_by_us(work / LOCK, work):
        yield


@contextlib.contextmanager
def held_by_us(lock: Path, work: Path) -> Iterator[None]:
    """Hold the file `lock` for this process. Raises UsageFault, which names `work`, while another scrape holds it."""
    with lock_file(lock) as holder:
        if holder is not None:
            raise UsageFault(f"{work} is in use by another webtext-scrape, process {holder}; wait for it, or give "
                             "another --work")
        yield
