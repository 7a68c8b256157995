"""Freed memory kept for the next time: activations and gradients of one size come and go at every step.

glibc gives large pieces back to the system as soon as they are freed, and gets them again page by page, each filled
with zeros: a seventh of a step of GPT-2 small. Another allocator (tcmalloc, jemalloc, musl's) is not touched by this.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""mallopt(3): how much free memory at the end is kept, and how many pieces are mapped by themselves."""
_DEFAULTS = {_TRIM_THRESHOLD: 128 << 10, _MMAP_MAX: 65536}
_KEPT = {_TRIM_THRESHOLD: (1 << 31) - 1, _MMAP_MAX: 0}


@contextlib.contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Let this process keep what it frees inside the block, where its allocator is glibc's; then give back the rest."""
    try:
        libc = ctypes.CDLL(None)
        set_option, trim = libc.mallopt, libc.malloc_trim
    except (OSError, AttributeError):
        yield
        return
    for option, value in _KEPT.items():
        set_option(option, value)
    try:
        yield
    finally:
        for option, value in _DEFAULTS.items():
            set_option(option, value)
        trim(ctypes.c_size_t(0))
