"""What a fork of fault_server.py finds around it: standard streams, a limit of file size, a wrong clock, a pipeline."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import io
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PIPE_BYTES = 4096
MOST_WORDS = 1 << 20


class Heard:
    """A pipe for standard error, which no limit of file size and no full disk silences."""

    def __init__(self) -> None:
        self._reading, self.writing = os.pipe()
        fcntl.fcntl(self.writing, fcntl.F_SETPIPE_SZ, MOST_WORDS)

    def words(self) -> str:
        """Return what was said, once the command has ended; who outlives it is not waited for."""
        os.close(self.writing)
        os.set_blocking(self._reading, False)
        data = b""
        with contextlib.suppress(BlockingIOError):
            while more := os.read(self._reading, MOST_WORDS):
                data += more
        os.close(self._reading)
        return data.decode("utf-8", "replace")


def enter(around: dict[str, Any], stderr: Heard) -> None:
    """Take standard streams (a path, or None for a closed one), file_bytes, memory (bytes to allocate) and clock as
    `around` has them."""
    _stream(0, around.get("stdin", os.devnull), os.O_RDONLY)
    _stream(1, around.get("stdout", os.devnull), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(stderr.writing, 2)
    settle(around)


def settle(around: dict[str, Any]) -> None:
    """Take what `around` says but for the standard streams, which are there."""
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False))) if _is_open(0) else None
    if around.get("file_bytes") is not None:
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (around["file_bytes"], most))
    if around.get("memory") is not None:  # beyond what it has
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + around["memory"], most))
    seconds, readings = around.get("clock", (0, 0))
    ctypes.CDLL(os.environ["LD_PRELOAD"]).set_clock(ctypes.c_long(seconds), ctypes.c_long(readings))


def wait(child: int, seconds: float | None = None) -> int:
    """Return the exit code of a child; one that stops is told to go on.

    seconds: after them it is asked to end by SIGTERM, and where it does not in as long again, it is killed.
    """
    for number in () if seconds is None else (signal.SIGTERM, signal.SIGKILL):
        ends = time.monotonic() + seconds
        while (found := os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT | os.WNOHANG)) is None and (
                time.monotonic() < ends):
            time.sleep(0.01)
        if found is None:
            os.kill(child, number)
    while True:
        _, status = os.waitpid(child, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            return os.waitstatus_to_exitcode(status)
        os.kill(child, signal.SIGCONT)


def pipeline(asked: dict[str, Any], become: Callable[[list[str]], None]) -> dict[str, Any]:
    """Run commands, each reading what the one before writes; the last one's reader goes away after `take` bytes.

    asked: {"commands": [argument lists], "directory", "take": bytes, None: all}.
    Returns {"statuses", "stderr": [text], "taken": bytes that the reader had}.
    """
    ends = [os.pipe() for _ in asked["commands"]]
    for _, end in ends:
        fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    if asked["take"] == 0:
        os.close(ends[-1][0])
    heard = [Heard() for _ in ends]
    children = []
    for number, arguments in enumerate(asked["commands"]):
        child = os.fork()
        if child == 0:
            os.chdir(asked["directory"])
            _stream(0, os.devnull, os.O_RDONLY) if number == 0 else os.dup2(ends[number - 1][0], 0)
            os.dup2(ends[number][1], 1)
            os.dup2(heard[number].writing, 2)
            for end in {end for pair in ends for end in pair} - {0, 1, 2}:
                with contextlib.suppress(OSError):
                    os.close(end)
            settle({})
            become(arguments)
        children.append(child)
    for reading, writing in ends:
        os.close(writing)
        if reading != ends[-1][0]:
            os.close(reading)
    taken = _take(ends[-1][0], asked["take"]) if asked["take"] != 0 else 0
    statuses = [wait(child) for child in children]
    return {"statuses": statuses, "stderr": [one.words() for one in heard], "taken": taken}


def _take(reader: int, most: int | None) -> int:
    taken = 0
    while (most is None or taken < most) and (data := os.read(reader, 65536 if most is None else most - taken)):
        taken += len(data)
    os.close(reader)
    return taken


def _stream(number: int, name: str | None, flags: int) -> None:
    if name is None:
        with contextlib.suppress(OSError):
            os.close(number)
        return
    opened = os.open(name, flags, 0o600)
    if opened != number:
        os.dup2(opened, number)
        os.close(opened)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
