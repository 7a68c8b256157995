"""What the process holds in memory, and has held at its peak."""

from __future__ import annotations

import os
import re
import resource
import sys
from pathlib import Path


def peak_rss_bytes() -> int:
    """Return this process's peak resident set size in bytes.

    By /proc, where there is one: getrusage, which counts KiB on Linux and bytes on macOS, begins on Linux with what the
    process held that started this one.
    """
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    except OSError:
        found = None
    if found is not None:
        return int(found[1]) << 10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def rss_bytes() -> int | None:
    """Return this process's resident set size in bytes; None where the system has no /proc."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def available_bytes() -> int | None:
    """Return what this process may hold in bytes, what it already holds included; None where the system does not tell.

    The system's available memory and free swap, or what its control group (version 2) leaves, if that is less.
    """
    try:
        kib = dict(re.findall(r"^(\w+):\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE))
        available = (int(kib["MemAvailable"]) + int(kib.get("SwapFree", 0))) << 10
    except (OSError, KeyError):
        return None
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        held = re.search(r"^anon (\d+)$", Path("/sys/fs/cgroup/memory.stat").read_text(), re.MULTILINE)
    except OSError:
        limit, held = "max", None
    if limit.isdigit() and held is not None:
        available = min(available, int(limit) - int(held[1]))
    return available + (rss_bytes() or 0)
