"""Worker processes that may be killed: a page that hangs or crashes the extractor costs its limit and no neighbour."""

from __future__ import annotations

import collections
import json
import os
import select
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import gpt2cli
from gpt2cli.webtext.page_worker import frame

Key = TypeVar("Key")
_RECYCLE_AFTER = 1000
"""Pages after which a worker is replaced: parsers leak."""
_AHEAD = 16
"""Pages per worker that may be finished or in work before their turn."""
_POLL_S = 0.1
_START_LIMIT_S = 60.0


@dataclass(frozen=True)
class PageText:
    """What became of a page: its text, or why there is none."""

    text: str
    error: str | None = None


class PagePool(Generic[Key]):
    """`workers` processes. `timeout_s` bounds a page's wall-clock time, `memory_bytes` a worker's address space."""

    def __init__(self, workers: int, timeout_s: float, memory_bytes: int) -> None:
        self._workers = workers
        self._timeout_s = timeout_s
        self._memory_bytes = memory_bytes
        self._threads = ThreadPoolExecutor(workers, "extract")
        self._local = threading.local()
        self._alive: set[_Worker] = set()
        self._closed = False

    def map(
        self, pages: Iterable[tuple[Key, Callable[[], tuple[bytes, str | None]]]], poll: Callable[[], None]
    ) -> Iterator[tuple[Key, PageText]]:
        """Yield (key, PageText) in the order of `pages`; each gives a function that loads (body, HTTP charset).

        `poll` is called while waiting and may raise to stop. What a load function raises is raised here.
        """
        window: collections.deque[tuple[Key, Future[PageText]]] = collections.deque()
        for key, load in pages:
            window.append((key, self._threads.submit(self._extract, load)))
            while window[0][1].done() or len(window) >= _AHEAD * self._workers:
                yield self._take(window, poll)
                if not window:
                    break
        while window:
            yield self._take(window, poll)

    def close(self) -> None:
        """Kill every worker."""
        self._closed = True
        for worker in tuple(self._alive):
            worker.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _take(
        self, window: collections.deque[tuple[Key, Future[PageText]]], poll: Callable[[], None]
    ) -> tuple[Key, PageText]:
        key, future = window[0]
        while True:
            poll()
            try:
                result = future.result(timeout=_POLL_S)
            except FutureTimeout:
                if future.done():
                    raise
                continue
            window.popleft()
            return key, result

    def _extract(self, load: Callable[[], tuple[bytes, str | None]]) -> PageText:
        body, charset = load()
        worker: _Worker | None = getattr(self._local, "worker", None)
        if worker is None or worker.served >= _RECYCLE_AFTER:
            if worker is not None:
                self._discard(worker)
            worker = _Worker(self._memory_bytes, self._timeout_s)
            self._local.worker = worker
            self._alive.add(worker)
            if self._closed:
                worker.kill()
        result = worker.ask(body, charset, self._timeout_s)
        if result.error is not None:
            # hung, dead, or in an unknown state after running out of memory
            self._discard(worker)
            self._local.worker = None
        return result

    def _discard(self, worker: _Worker) -> None:
        self._alive.discard(worker)
        worker.kill()


class _Worker:
    def __init__(self, memory_bytes: int, timeout_s: float) -> None:
        root = str(Path(gpt2cli.__file__).parent.parent)
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "gpt2cli.webtext.page_worker", str(memory_bytes), str(timeout_s)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path, "MALLOC_ARENA_MAX": "1"},
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)
        self.served = 0

    def ask(self, body: bytes, charset: str | None, timeout_s: float) -> PageText:
        """Return the worker's answer, or an error when it took too long or died."""
        # The first page also pays for the start of the interpreter, which is not the page's fault.
        deadline = time.monotonic() + timeout_s + (_START_LIMIT_S if self.served == 0 else 0.0)
        self.served += 1
        try:
            self._send(frame(json.dumps({"charset": charset}).encode()) + frame(body), deadline)
            (length,) = struct.unpack(">I", self._receive(4, deadline))
            reply = json.loads(self._receive(length, deadline))
        except TimeoutError:
            return PageText("", "timed out")
        except (OSError, EOFError):
            return PageText("", "extractor died")
        return PageText(reply.get("text", ""), reply.get("error"))

    def kill(self) -> None:
        """End the process at once and reap it. Safe from another thread, and more than once."""
        self._process.kill()
        self._process.wait()

    def _send(self, data: bytes, deadline: float) -> None:
        view = memoryview(data)
        while view:
            self._wait(self._in, select.POLLOUT, deadline)
            view = view[os.write(self._in, view[: 1 << 16]):]

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
