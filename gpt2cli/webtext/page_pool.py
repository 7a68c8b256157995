"""Worker processes that may be killed: a page that hangs or crashes the extractor costs its limit and no neighbour."""

from __future__ import annotations

import collections
import contextlib
import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import gpt2cli
from gpt2cli.errors import Gpt2Error
from gpt2cli.webtext.page import NoPage, Page, PageBody
from gpt2cli.webtext.page_worker import ERROR, LAST_TEXT, frame

MAX_AHEAD = 1024
"""Pages that may be finished or in work before their turn: what a page that hangs may keep waiting, not idle."""
MAX_HELD = 64 << 20
"""Bytes of pages that are in memory before their turn."""
_POLL_S = 0.1
_START_LIMIT_S = 300.0
_CLOCK_LIMIT = 10
"""Times its limit of CPU time that a page may take by the clock, as on a machine with much else to do."""
_MAX_REPLY = 1 << 30
_PIPE = 1 << 20


@dataclass(frozen=True)
class PageText:
    """What became of a page: its text, or in `error` why there is none, with more of it in `detail`."""

    text: str
    error: str | None = None
    detail: str = ""


@dataclass(frozen=True)
class Limits:
    """Of one page: `page_timeout_s`, seconds of CPU time and ten times that by the clock, and `page_memory`, bytes.

    max_resident: bytes of memory beyond which a worker is replaced: parsers leak, and heaps fall to pieces.
    """

    page_timeout_s: float = 20.0
    page_memory: int = 1 << 30
    max_resident: int = 256 << 20


class PagePool:
    """`workers` processes that run one extractor of webtext.page_text within `limits`."""

    def __init__(self, extractor: str, workers: int, limits: Limits) -> None:
        self._extractor = extractor
        self._limits = limits
        self._threads = ThreadPoolExecutor(workers, "extract")
        self._local = threading.local()
        self._alive: set[_Worker] = set()
        self._closed = False

    def map(self, pages: Iterable[Page], poll: Callable[[], None]) -> Iterator[tuple[Page, PageText]]:
        """Yield (page, PageText) in the order of `pages`.

        `poll` is called while waiting and may raise to stop. What a page's load raises, but for NoPage, is raised here;
        so is Gpt2Error when a worker does not start.
        """
        window: collections.deque[tuple[Page, Future[PageText]]] = collections.deque()
        held = 0
        for page in pages:
            window.append((page, self._threads.submit(self._extract, page.load)))
            held += page.held
            while window and (window[0][1].done() or len(window) >= MAX_AHEAD or held >= MAX_HELD):
                held -= window[0][0].held
                yield self._take(window, poll)
        while window:
            yield self._take(window, poll)

    def close(self) -> None:
        """Kill every worker."""
        self._closed = True
        for worker in tuple(self._alive):
            worker.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for worker in tuple(self._alive):
            worker.kill()

    def _take(self, window: collections.deque[tuple[Page, Future[PageText]]], poll: Callable[[], None]
              ) -> tuple[Page, PageText]:
        page, future = window[0]
        poll()
        while not future.done():
            wait((future,), timeout=_POLL_S)
            poll()
        result = future.result()
        window.popleft()
        return page, result

    def _extract(self, load: Callable[[], PageBody]) -> PageText:
        try:
            page = load()
        except NoPage as none:
            return PageText("", none.reason, none.detail)
        result, reusable = self._worker().ask(page, self._limits.page_timeout_s)
        if not reusable:
            self._discard()
        return result

    def _worker(self) -> _Worker:
        worker: _Worker | None = getattr(self._local, "worker", None)
        if worker is None:
            worker = _Worker(self._extractor, self._limits)
            self._local.worker = worker
            self._alive.add(worker)
            if self._closed:
                worker.kill()
            worker.wait_until_ready()
        return worker

    def _discard(self) -> None:
        worker: _Worker = self._local.worker
        self._local.worker = None
        self._alive.discard(worker)
        worker.kill()


class _Worker:
    """One process; see page_worker.py for what is said to it."""

    def __init__(self, extractor: str, limits: Limits) -> None:
        root = str(Path(gpt2cli.__file__).parent.parent)
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "gpt2cli.webtext.page_worker", extractor, str(limits.page_memory),
             str(limits.page_timeout_s), str(limits.max_resident)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._complaints,
            env={**os.environ, "PYTHONPATH": path, "MALLOC_ARENA_MAX": "1"},
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        _widen(self._in)
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)

    def wait_until_ready(self) -> None:
        """Wait for the process to have its extractor loaded. Raises Gpt2Error when it does not come to that."""
        try:
            self._receive(4, time.monotonic() + _START_LIMIT_S)
        except (OSError, EOFError):
            self._complaints.seek(0)
            lines = self._complaints.read(1 << 16).decode("utf-8", "replace").strip().splitlines() or ["no word of why"]
            raise Gpt2Error(f"the process that extracts text does not start: {lines[-1][:300]}") from None

    def ask(self, page: PageBody, timeout_s: float) -> tuple[PageText, bool]:
        """Return the worker's answer, or an error when it took too long or died; and whether it can be asked again."""
        deadline = time.monotonic() + _CLOCK_LIMIT * timeout_s
        try:
            charset = frame((page.charset or "").encode("utf-8", "replace"))
            self._send(charset + struct.pack(">I", len(page.body)), deadline)
            self._send(page.body, deadline)  # apart, for it need not be copied
            (length,) = struct.unpack(">I", self._receive(4, deadline))
            reply = self._receive(min(length, _MAX_REPLY), deadline)
        except TimeoutError:
            return PageText("", "timed out"), False
        except (OSError, EOFError):
            late = self._process.wait() == -signal.SIGPROF
            return PageText("", "timed out" if late else "extractor died"), False
        if reply[:1] == ERROR:  # it may be in an unknown state, as after running out of memory
            return PageText("", reply[1:].decode()), False
        return PageText(reply[1:].decode()), reply[:1] != LAST_TEXT

    def kill(self) -> None:
        """End the process at once and reap it. Safe from another thread, and more than once."""
        self._process.kill()
        self._process.wait()

    def _send(self, data: bytes, deadline: float) -> None:
        view = memoryview(data)
        while view:
            self._wait(self._in, select.POLLOUT, deadline)
            view = view[os.write(self._in, view):]

    def _receive(self, size: int, deadline: float) -> bytes:
        data = bytearray()
        while len(data) < size:
            self._wait(self._out, select.POLLIN, deadline)
            chunk = os.read(self._out, min(size - len(data), 1 << 20))
            if not chunk:
                raise EOFError
            data += chunk
        return bytes(data)

    def _wait(self, descriptor: int, event: int, deadline: float) -> None:
        # poll, not select: a crawl with many sockets open has descriptors beyond select's 1,024
        poller = select.poll()
        poller.register(descriptor, event)
        if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError


def _widen(pipe: int) -> None:
    """Let a pipe hold most pages whole, where the system can: each filling is a switch between processes."""
    with contextlib.suppress(AttributeError, OSError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE)
