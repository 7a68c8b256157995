"""One crawl at a time in a work directory."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from gpt2cli.errors import UsageFault


@contextlib.contextmanager
def lock_work(work: Path) -> Iterator[None]:
    """Hold `work` (made if missing) for this process. Raises UsageFault while another scrape holds it."""
    work.mkdir(parents=True, exist_ok=True)
    with open(work / "lock", "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageFault(f"{work} is in use by another webtext-scrape; wait for it, or give another --work"
                             ) from None
        yield
