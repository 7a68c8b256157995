"""The worker process: framed pages in on stdin, framed texts out on stdout, one after another, until stdin ends.

Frame: 4 bytes big-endian length, then that many bytes. The worker first sends one empty frame: it is ready. A request
is two frames, the HTTP charset (empty: none) and the body; a reply is one, whose first byte says what follows: T the
text, t the same from a worker that has grown too large and should be replaced, E why there is no text. No pickle:
pages are strangers' bytes.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import signal
import struct
import sys
from collections.abc import Callable
from typing import BinaryIO

TEXT, LAST_TEXT, ERROR = b"T", b"t", b"E"
OUT_OF_MEMORY = b"out of memory"
_COLLECT_EVERY = 64


def read_frame(stream: BinaryIO) -> bytes | None:
    """Return the next frame, or None at the end of the stream (also in the middle of a frame)."""
    head = stream.read(4)
    if len(head) < 4:
        return None
    (length,) = struct.unpack(">I", head)
    data = stream.read(length)
    return data if len(data) == length else None


def frame(data: bytes) -> bytes:
    """Return `data` with its length before it."""
    return struct.pack(">I", len(data)) + data


def limit_memory(more_bytes: int) -> None:
    """Bound what this process may allocate on top of what it has, where the system can."""
    try:
        import resource

        limit = min(_memory(b"VmSize")[0] + more_bytes, 2**63 - 1)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    except (ImportError, ValueError, OSError):
        pass  # macOS refuses; the time limit still holds


def limit_time(seconds: float) -> None:
    """Let the system end this process by SIGPROF after that much more CPU time, also inside a library's C code."""
    signal.setitimer(signal.ITIMER_PROF, seconds)


def serve(extractor: str, memory_bytes: int, page_seconds: float, max_resident: int) -> None:
    """Answer requests until stdin ends, or until a page takes `page_seconds` of CPU time.

    CPU time, because what is kept should not depend on what else the machine does; the parent looks at the clock.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    source = sys.stdin.buffer
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not break the framing
    logging.disable(logging.CRITICAL)
    from gpt2cli.webtext.page_text import page_text

    text_of = page_text(extractor)
    text_of(b"<html><body><p>warm up</p></body></html>", None)
    memory = _Memory(memory_bytes, max_resident)
    limit_memory(memory_bytes)
    _silence()
    _send(sink, b"")
    while (charset := read_frame(source)) is not None and (body := read_frame(source)) is not None:
        limit_time(page_seconds)
        reply = _reply(text_of, body, charset.decode("utf-8", "replace") or None)
        del body
        peak, resident = _memory(b"VmPeak", b"VmRSS")
        if memory.ran_out(peak):
            reply = ERROR + OUT_OF_MEMORY
        elif reply.startswith(TEXT) and memory.grown(resident):
            reply = LAST_TEXT + reply[1:]
        limit_time(0)
        _send(sink, reply)


def _reply(text_of: Callable[[bytes, str | None], str], body: bytes, charset: str | None) -> bytes:
    try:
        return TEXT + text_of(body, charset).encode("utf-8", "replace")
    except MemoryError:
        return ERROR + OUT_OF_MEMORY
    except RecursionError:
        return ERROR + b"nested too deeply"
    except Exception as error:
        return ERROR + f"extractor failed: {type(error).__name__}".encode()


def _send(sink: BinaryIO, data: bytes) -> None:
    sink.write(frame(data))
    sink.flush()


def _silence() -> None:
    """Drop what libraries print from here on: it is about strangers' pages, and of any length."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.close(null)


class _Memory:
    """Keeps the collector out of the way, and says what became of this process's memory."""

    def __init__(self, allowed: int, max_resident: int) -> None:
        gc.collect()
        gc.freeze()  # what is imported by now stays; collections need not look at it again
        gc.disable()
        self._pages = 0
        self._max_resident = max_resident
        self._full = _memory(b"VmSize")[0] + allowed * 3 // 4
        self._trim: Callable[[int], int] | None = None
        with contextlib.suppress(OSError, AttributeError):
            self._trim = ctypes.CDLL(None).malloc_trim

    def ran_out(self, peak: int) -> bool:
        """Whether a page came near the limit. Extractors take a failed allocation for a page without text."""
        return peak > self._full

    def grown(self, resident: int) -> bool:
        """Count a page; return whether the process has become so large that another should take its place."""
        self._pages += 1
        if self._pages % _COLLECT_EVERY == 0:
            gc.collect()
        if resident <= self._max_resident:
            return False
        gc.collect()
        if self._trim is not None:
            self._trim(0)
        return _memory(b"VmRSS")[0] > self._max_resident


def _memory(*names: bytes) -> list[int]:
    """Return measures of this process's memory in bytes (proc(5), status); 0 where the system does not say."""
    try:
        status = os.open("/proc/self/status", os.O_RDONLY)
        try:
            text = os.read(status, 1 << 14)
        finally:
            os.close(status)
        return [int(text.partition(name + b":")[2].split(None, 1)[0]) << 10 for name in names]
    except (OSError, ValueError, IndexError):
        return [0] * len(names)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
