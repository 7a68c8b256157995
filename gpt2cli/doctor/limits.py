"""What the system allows this process: open files, file size, address space."""

from __future__ import annotations

import resource
from collections.abc import Iterator

from gpt2cli.doctor.finding import Finding, binary_size

TOPIC = "limits"
_FILES = 1_100
"""A thousand connections in flight, and what else is open."""


def limits() -> Iterator[Finding]:
    """Yield the limits that commands meet, and those that were set and usually are not."""
    yield open_files(*resource.getrlimit(resource.RLIMIT_NOFILE))
    for name, number, meets in (("file size", resource.RLIMIT_FSIZE, "larger outputs end with status 74"),
                                ("address space", resource.RLIMIT_AS, "memory beyond it ends a command")):
        soft = resource.getrlimit(number)[0]
        if soft != resource.RLIM_INFINITY:
            yield Finding(TOPIC, name, f"at most {binary_size(soft)}", "note", f"{meets}; ulimit shows and sets it")


def open_files(soft: int, hard: int) -> Finding:
    """Judge how many files and connections may be open at once; commands raise the soft limit to the hard one."""
    most = max(soft, hard) if resource.RLIM_INFINITY not in (soft, hard) else resource.RLIM_INFINITY
    if most == resource.RLIM_INFINITY:
        return Finding(TOPIC, "open files", "any number")
    if most >= _FILES:
        return Finding(TOPIC, "open files", f"{most:,}")
    return Finding(TOPIC, "open files", f"{most:,}", "note",
                   f"webtext-scrape holds one for each connection: keep --concurrency below {max(1, most - 100)}")
