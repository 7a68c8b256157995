"""Freed memory kept for the next time: activations and gradients of one size come and go at every step.

glibc gives large pieces back to the system as soon as they are freed, and gets them again page by page, each filled
with zeros: a seventh of a step of GPT-2 small. Another allocator (tcmalloc, jemalloc, musl's) is not touched by this.
"""

from __future__ import annotations

import contextlib
import ctypes
import resource
from collections.abc import Iterator

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
"""mallopt(3): how much free memory at the end is kept, from which size on pieces are mapped by themselves, how many."""
_DEFAULTS = {_TRIM_THRESHOLD: 128 << 10, _MMAP_MAX: 65536}
_KEPT = {_TRIM_THRESHOLD: (1 << 31) - 1, _MMAP_MAX: 0}
_RETURNED = {_MMAP_THRESHOLD: 1 << 20, _TRIM_THRESHOLD: 128 << 10, _MMAP_MAX: 65536}


def freed_memory_kept() -> contextlib.AbstractContextManager[None]:
    """Let this process keep what it frees inside the block, where its allocator is glibc's; then give back the rest."""
    return _with(_KEPT)


def freed_memory_returned() -> contextlib.AbstractContextManager[None]:
    """Let this process return at once what it frees inside the block, where its allocator is glibc's.

    glibc raises its threshold to the size of what was freed, up to 32 MiB, and pieces below it lie among others, which
    keep them from going back. A threshold that is set stays.
    """
    return _with(_RETURNED)


def address_space_is_limited() -> bool:
    """Whether this process has a limit (ulimit -v), under which all but the allocator lacks what it keeps."""
    return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY


def give_back_freed_memory() -> None:
    """Return to the system what was kept so far, where the allocator is glibc's."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(ctypes.c_size_t(0))


@contextlib.contextmanager
def _with(options: dict[int, int]) -> Iterator[None]:
    try:
        libc = ctypes.CDLL(None)
        set_option, trim = libc.mallopt, libc.malloc_trim
    except (OSError, AttributeError):
        yield
        return
    for option, value in options.items():
        set_option(option, value)
    try:
        yield
    finally:
        for option, value in _DEFAULTS.items():
            set_option(option, value)
        trim(ctypes.c_size_t(0))
