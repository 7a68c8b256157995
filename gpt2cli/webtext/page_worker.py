"""The worker process: framed pages in on stdin, framed texts out on stdout, one after another, until stdin ends.

Frame: 4 bytes big-endian length, then that many bytes. A request is a JSON header frame {"charset": ...} and a body
frame; a reply is one JSON frame {"text": ...} or {"error": ...}. No pickle: pages are strangers' bytes.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import struct
import sys
from typing import BinaryIO


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


def limit_memory(limit_bytes: int) -> None:
    """Bound this process's address space, where the system can."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
    except (ImportError, ValueError, OSError):
        pass  # macOS refuses; the time limit still holds


def limit_time(seconds: float) -> None:
    """Let the system end this process after that much more CPU time: a page that hangs must not outlive the parent."""
    try:
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime + seconds) + 1, hard))
    except (ImportError, ValueError, OSError):
        pass


def serve(memory_bytes: int, page_seconds: float) -> None:
    """Answer requests until stdin ends. The parent enforces the wall-clock limit; ours is for when it has died."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    source = sys.stdin.buffer
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not break the framing
    logging.disable(logging.CRITICAL)
    from gpt2cli.webtext.page_text import page_text

    page_text(b"<html><body><p>warm up</p></body></html>", None)
    limit_memory(memory_bytes)
    while (header := read_frame(source)) is not None and (body := read_frame(source)) is not None:
        limit_time(page_seconds)
        try:
            reply = {"text": page_text(body, json.loads(header)["charset"])}
        except MemoryError:
            reply = {"error": "out of memory"}
        except RecursionError:
            reply = {"error": "nested too deeply"}
        except Exception as error:
            reply = {"error": f"extractor failed: {type(error).__name__}"}
        sink.write(frame(json.dumps(reply).encode()))
        sink.flush()


if __name__ == "__main__":
    serve(int(sys.argv[1]), float(sys.argv[2]))
