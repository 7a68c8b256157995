"""Step 2: links -> pages in the WARC, each URL once, politely, with a typed outcome for every one.

Nothing here trusts a server: time, decoded bytes, redirects and addresses are bounded (exchange.py, body.py,
connector.py), and what was fetched survives kill -9 (journal.py).
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import heapq
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urljoin

import aiohttp

import gpt2cli
from gpt2cli.errors import Interrupted
from gpt2cli.records.jsonl import Record
from gpt2cli.reporter import Reporter
from gpt2cli.webtext.address_guard import AddressGuard
from gpt2cli.webtext.connector import guarded_connector
from gpt2cli.webtext.exchange import REDIRECTS, ExchangeLimits, exchange, request_headers
from gpt2cli.webtext.gates import HostGates
from gpt2cli.webtext.hosts import exclusion
from gpt2cli.webtext.journal import Journal, lock_work
from gpt2cli.webtext.links import Link
from gpt2cli.webtext.outcomes import OK, FetchFault
from gpt2cli.webtext.robots import AGENT, MAX_ROBOTS, RobotsCache
from gpt2cli.webtext.tally import StepTally
from gpt2cli.webtext.urls import clean_url, host_of
from gpt2cli.webtext.warc import Response, utc_now

_POLL_S = 0.1
_BATCH = 64
_RESOLVER_THREADS = 32


@dataclass(frozen=True)
class FetchConfig:
    """How to fetch. Times in seconds; `max_bytes` counts decoded bytes of a page; `contact` is a URL or None."""

    work: Path
    concurrency: int = 64
    host_gap_s: float = 1.0
    timeout_s: float = 30.0
    max_bytes: int = 5_000_000
    max_redirects: int = 5
    contact: str | None = None
    host_profile: str = "webtext"
    guard: AddressGuard = field(default_factory=AddressGuard)

    @property
    def user_agent(self) -> str:
        """What servers are told about us."""
        about = f" (+{self.contact})" if self.contact else ""
        return f"{AGENT}/{gpt2cli.__version__}{about}"


def fetch_pages(links: Sequence[Link], config: FetchConfig, tally: StepTally, reporter: Reporter) -> Iterator[Record]:
    """Fetch what pages.jsonl under `config.work` lacks, then yield the gpt2.page/1 fields of all links in their order.

    Raises Interrupted when the reporter says stop (all finished pages are safe), UsageFault while another scrape
    holds the directory, BadInput when its state is damaged.
    """
    with lock_work(config.work), contextlib.closing(Journal(config.work, config.user_agent)) as journal:
        todo = [link for link in links if link.url not in journal.done]
        if todo and len(todo) < len(links):
            reporter.note(f"fetch: {len(links) - len(todo):,} of {len(links):,} pages are in {config.work} already")
        if todo:
            asyncio.run(_run(todo, config, journal, reporter))
        for link in links:
            page = journal.done[link.url]
            tally.read += 1
            if page["outcome"] == OK:
                tally.kept += 1
            else:
                tally.drop(link.url, page["outcome"], page.get("detail", ""))
            yield {**link.fields(), **{name: value for name, value in page.items() if name != "schema"}}


async def _run(todo: Sequence[Link], config: FetchConfig, journal: Journal, reporter: Reporter) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_RESOLVER_THREADS, "resolve"))
    connector = guarded_connector(config.guard, config.concurrency)
    async with aiohttp.ClientSession(
        connector=connector, headers=request_headers(config.user_agent), cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None), trust_env=False, auto_decompress=False,
    ) as session:
        crawl = _Crawl(session, config, journal)
        await crawl.run(todo, reporter)


class _Crawl:
    """One crawl: a queue per host, a heap of hosts by the time they are free, and one writer behind them all."""

    def __init__(self, session: aiohttp.ClientSession, config: FetchConfig, journal: Journal) -> None:
        self._session = session
        self._config = config
        self._journal = journal
        self._gates = HostGates(config.host_gap_s)
        robots_limits = ExchangeLimits(config.timeout_s, MAX_ROBOTS, page=False)
        self._robots = RobotsCache(lambda url: self._get(url, robots_limits))
        self._queues: dict[str, collections.deque[Link]] = {}
        self._due: list[tuple[float, int, str]] = []
        self._order = 0
        self._active: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(config.concurrency)
        self._woken = asyncio.Event()
        self._broken: BaseException | None = None
        self._finished: asyncio.Queue[tuple[Record, Response | None]] = asyncio.Queue(config.concurrency)
        self._outcomes: collections.Counter[str] = collections.Counter()

    async def run(self, todo: Sequence[Link], reporter: Reporter) -> None:
        """Fetch all of `todo`; on a wish to stop, drop what is in flight, keep the rest, raise Interrupted."""
        for link in todo:
            host = host_of(link.url)
            if host not in self._queues:
                self._queues[host] = collections.deque()
                self._schedule(host, 0.0)
            self._queues[host].append(link)
        writer = asyncio.create_task(self._write())
        dispatcher = asyncio.create_task(self._dispatch())
        try:
            while not (dispatcher.done() or writer.done() or self._broken or reporter.stopping()):
                await asyncio.wait({dispatcher, writer}, timeout=_POLL_S, return_when=asyncio.FIRST_COMPLETED)
                done = self._outcomes.total()
                reporter.progress(done, len(todo), "pages", ok=f"{self._outcomes[OK]:,}")
        finally:
            await _cancel({dispatcher, *self._active})
            if not writer.done():
                await self._finished.join()
            await _cancel({writer})
        for failure in (self._broken, *(task.exception() for task in (writer, dispatcher) if not task.cancelled())):
            if failure is not None:
                raise failure
        if self._outcomes.total() < len(todo):
            raise Interrupted(f"stopped; {len(self._journal.done):,} pages are safe in {self._config.work}, "
                              "and the same command goes on from there")

    def _schedule(self, host: str, when: float) -> None:
        self._order += 1
        heapq.heappush(self._due, (when, self._order, host))
        self._woken.set()

    async def _dispatch(self) -> None:
        while True:
            await self._slots.acquire()
            host = await self._next_host()
            if host is None:
                break
            task = asyncio.create_task(self._serve(host, self._queues[host].popleft()))
            self._active.add(task)
            task.add_done_callback(self._served)
        await self._finished.join()

    async def _next_host(self) -> str | None:
        loop = asyncio.get_running_loop()
        while True:
            now = loop.time()
            if self._due and self._due[0][0] <= now:
                return heapq.heappop(self._due)[2]
            if not self._due and not self._active:
                return None
            self._woken.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), self._due[0][0] - now if self._due else None)

    async def _serve(self, host: str, link: Link) -> None:
        try:
            await self._finished.put(await self._visit(link))
        finally:
            self._slots.release()
            if self._queues[host]:
                self._schedule(host, self._gates.free_at(host))
            else:
                del self._queues[host]

    def _served(self, task: asyncio.Task[None]) -> None:
        self._active.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._broken = task.exception()
        self._woken.set()

    async def _visit(self, link: Link) -> tuple[Record, Response | None]:
        try:
            answer = await self._follow(link.url)
        except FetchFault as fault:
            fields = {"url": link.url, "outcome": fault.outcome, "status": fault.status, "retrieved": utc_now()}
            return ({**fields, "detail": str(fault)} if str(fault) else fields), None
        return {"url": link.url, "outcome": OK, "status": answer.status, "final_url": answer.url,
                "bytes": len(answer.body), "retrieved": answer.date}, answer

    async def _follow(self, url: str) -> Response:
        visited = {url}
        budget = self._config.timeout_s
        for _ in range(self._config.max_redirects + 1):
            refusal = await self._robots.refusal(url)
            if refusal is not None:
                raise FetchFault(refusal)
            spent: list[float] = []
            answer = await self._get(url, ExchangeLimits(budget, self._config.max_bytes), spent)
            budget -= spent[0]
            if answer.status not in REDIRECTS:
                if answer.status != 200:
                    raise FetchFault("http_error", f"status {answer.status}", answer.status)
                return answer
            url = self._target(answer)
            if url in visited:
                raise FetchFault("redirect_loop")
            visited.add(url)
        raise FetchFault("too_many_redirects")

    def _target(self, answer: Response) -> str:
        location = answer.header("location")
        try:
            url = clean_url(urljoin(answer.url, location or ""))
        except ValueError as error:
            raise FetchFault("bad_redirect", str(error)) from None
        if not location:
            raise FetchFault("bad_redirect", "no Location header")
        if exclusion(host_of(url), self._config.host_profile):
            raise FetchFault("excluded_host", host_of(url))
        return url

    async def _get(self, url: str, limits: ExchangeLimits, spent: list[float] | None = None) -> Response:
        """Make one polite request; `spent` receives the seconds it took, waiting for the host not counted."""
        loop = asyncio.get_running_loop()
        async with self._gates.passing(host_of(url)):
            began = loop.time()
            try:
                return await exchange(self._session, url, limits)
            finally:
                if spent is not None:
                    spent.append(loop.time() - began)

    async def _write(self) -> None:
        while True:
            batch = [await self._finished.get()]
            while not self._finished.empty() and len(batch) < _BATCH:
                batch.append(self._finished.get_nowait())
            await asyncio.get_running_loop().run_in_executor(None, self._journal.commit, batch)
            for fields, _ in batch:
                self._outcomes[fields["outcome"]] += 1
                self._finished.task_done()


async def _cancel(tasks: set[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
