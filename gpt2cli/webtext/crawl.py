"""A crawl: hosts as they become due, a task for each step, and one writer that puts what they came to on disk.

A link's slot is free again only when its end is on disk, so at most `concurrency` links are ever lost to a kill.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import gc
import resource
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp

from gpt2cli.errors import UsageFault
from gpt2cli.webtext.connector import PinnedResolver, guarded_connector
from gpt2cli.webtext.crawl_state import CrawlState, Job, Settlement
from gpt2cli.webtext.exchange import MAX_FIELD, request_headers
from gpt2cli.webtext.fetch_config import FetchConfig
from gpt2cli.webtext.host_window import Host, HostWindow
from gpt2cli.webtext.visit import Done, Full, Later, Moved, Visitor
from gpt2cli.webtext.warc_files import WarcFiles

_BATCH = 256
_RESOLVER_THREADS = 128
_HOSTS_PER_SLOT = 4
_LEAST_HOSTS = 64
_READ_BUFFER = 1 << 14
_SPARE_FILES = 64
_GARBAGE_AFTER = 20_000  # objects; the default of 700 spends a tenth of the time on looking at live ones


class Crawl:
    """One run over what is pending in the state. `outcomes` counts the links that ended, by outcome."""

    def __init__(self, config: FetchConfig, state: CrawlState, warc: WarcFiles) -> None:
        self._config = config
        self._state = state
        self._warc = warc
        self.outcomes: collections.Counter[str] = collections.Counter()
        self._slots = config.concurrency
        self._active: set[asyncio.Task[None]] = set()
        self._unsettled: list[tuple[Host, Job, Done | Moved]] = []
        self._settling = 0
        self._robots: list[tuple[int, str, int, str]] = []
        self._failures: dict[int, int] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = False
        self._broken: BaseException | None = None

    def stop(self) -> None:
        """Drop what is in flight and end soon; may be called from any thread."""
        self._stop = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended by itself
                self._loop.call_soon_threadsafe(self._wake.set)

    def run(self) -> None:
        """Fetch all that is pending, or until stop(). Raises what the state and the disk raise."""
        files = _raise_file_limit(self._config.concurrency)
        thresholds = gc.get_threshold()
        gc.set_threshold(_GARBAGE_AFTER, *thresholds[1:])
        try:
            with ThreadPoolExecutor(1, "crawl-state") as self._thread:
                asyncio.run(self._run(files))
        finally:
            gc.set_threshold(*thresholds)

    async def _run(self, files: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._to_settle = asyncio.Event()
        self._loop.set_default_executor(ThreadPoolExecutor(_RESOLVER_THREADS, "resolve"))
        pins = PinnedResolver()
        async with aiohttp.ClientSession(
            connector=guarded_connector(self._config.guard, pins), headers=request_headers(self._config.user_agent),
            cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(total=None), trust_env=False,
            auto_decompress=False, read_bufsize=_READ_BUFFER, max_field_size=MAX_FIELD,
        ) as session:
            session._retry_connection = False  # it would ask a server that hangs up again at once, without the gap
            self._visitor = Visitor(session, pins, self._config, self._recall, self._freed)
            size = min(max(_LEAST_HOSTS, _HOSTS_PER_SLOT * self._config.concurrency), files)
            self._window = HostWindow(size, self._state, self._call, self._wake.set)
            chores = [asyncio.create_task(work) for work in (self._window.fill(), self._settle())]
            for chore in chores:
                chore.add_done_callback(self._ended)
            try:
                await self._dispatch()
            finally:
                await _cancel(self._active)
                await _cancel({chores[0]})
                while (self._unsettled or self._settling) and not chores[1].done():
                    await asyncio.sleep(0.001)
                await _cancel({chores[1]})
        if self._broken is not None:
            raise self._broken

    async def _dispatch(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._stop and self._broken is None:
            self._wake.clear()
            now = loop.time()
            while self._slots > 0 and (host := self._window.next_due(now)) is not None:
                wait = self._visitor.hosts.wait(host.name, now)
                if wait > 0:
                    self._window.put_back(host, now + wait)
                    continue
                self._slots -= 1
                task = loop.create_task(self._serve(host, host.jobs.popleft()))
                self._active.add(task)
                task.add_done_callback(self._served)
            idle = not self._active and not self._unsettled and not self._settling
            if idle and self._window.empty():
                return
            due = self._window.next_time() if self._slots > 0 else None
            timer = None if due is None else loop.call_at(due, self._wake.set)
            await self._wake.wait()
            if timer is not None:
                timer.cancel()

    async def _serve(self, host: Host, job: Job) -> None:
        failures = host.failures
        step = await self._visitor.step(host, job)
        if host.failures != failures:
            self._failures[host.id] = host.failures
        if isinstance(step, Done | Moved):
            self._unsettled.append((host, job, step))
            self._to_settle.set()
        else:
            host.jobs.appendleft(job)
            self._slots += 1
        if isinstance(step, Full):
            self._window.park(host)
            self._visitor.addresses.park(step.address, host)
            return
        wait = 0.0
        if isinstance(step, Later):
            wait = step.wait_s
            if step.saved is not None:
                self._robots.append((host.id, *step.saved))
        assert self._loop is not None
        self._window.put_back(host, max(self._visitor.hosts.free_at(host.name), self._loop.time() + wait))

    def _served(self, task: asyncio.Task[None]) -> None:
        self._active.discard(task)
        self._ended(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._broken = self._broken or task.exception()
        self._wake.set()

    def _freed(self, host: Host | None) -> None:
        if host is not None:
            self._window.unpark(host, 0.0)

    async def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    async def _recall(self, host: int, origin: str) -> tuple[int, str]:
        found: tuple[int, str] | None = await self._call(self._state.robots, host, origin)
        return found or (0, "")

    async def _settle(self) -> None:
        while True:
            await self._to_settle.wait()
            self._to_settle.clear()
            while self._unsettled:
                batch, self._unsettled = self._unsettled[:_BATCH], self._unsettled[_BATCH:]
                self._settling = len(batch)
                robots, self._robots = self._robots, []
                failures, self._failures = self._failures, {}
                targets = await self._call(self._write, batch, robots, failures)
                self._settled(batch, targets)
                self._settling = 0
                self._wake.set()

    def _write(self, batch: list[tuple[Host, Job, Done | Moved]], robots: list[tuple[int, str, int, str]],
               failures: dict[int, int]) -> list[int]:
        """Put the responses on disk, then what points to them. Runs in the state's thread."""
        settled = Settlement(robots=robots, failures=failures)
        for host, job, step in batch:
            if isinstance(step, Moved):
                settled.moves.append((host.id, job, step.host))
                continue
            fields = step.fields
            if step.response is not None:
                name = self._warc.next_file()
                if name is not None:
                    self._state.announce(name)
                place = self._warc.append(step.response)
                fields = {**fields, **dict(zip(("warc", "offset", "length"), place, strict=True))}
                step.response = None
            settled.pages.append((host.id, job.link, fields))
        written = self._warc.sync()
        if written is not None:
            settled.warc = dict((written,))
        return self._state.commit(settled)

    def _settled(self, batch: list[tuple[Host, Job, Done | Moved]], targets: list[int]) -> None:
        at = iter(targets)
        for _, job, step in batch:
            self._slots += 1
            self._window.settled(job.link)
            if isinstance(step, Moved):
                self._window.arrived(next(at), job, self._visitor.hosts.free_at(step.host))
                continue
            self.outcomes[step.fields["outcome"]] += 1
            if step.ticket is not None:
                step.ticket.release()


def _raise_file_limit(concurrency: int) -> int:
    """Let this process have as many files as it may; return how many connections that leaves beside those in flight."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    most = 1 << 20 if soft == resource.RLIM_INFINITY else soft
    left = most - _SPARE_FILES - _RESOLVER_THREADS - concurrency
    if left < 1:
        raise UsageFault(f"--concurrency {concurrency} needs more open files than the {most} this process may have; "
                         "raise the limit with ulimit -n, or lower it")
    return left


async def _cancel(tasks: set[asyncio.Task[None]]) -> None:
    for task in (pending := set(tasks)):
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
