"""What the process has held at its peak."""

from __future__ import annotations

import resource
import sys


def peak_rss_bytes() -> int:
    """Return this process's peak resident set size in bytes (getrusage counts KiB on Linux, bytes on macOS)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
