"""The hosts that are being served: some thousands at a time, each with its next few links; the rest is in the state.

A host is due when its pause is over, and is served by one task at a time. Hosts come in the order in which they first
appear among the links, those that a redirect leads to before them.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from gpt2cli.webtext.crawl_state import CrawlState, HostJobs, Job

JOBS = 8
"""Links of a host that are held in memory at a time."""
_ADMIT = 256


class Host:
    """A host in the window. loaded: its pending links up to this number have been taken from the state."""

    __slots__ = ("again", "delay_s", "failures", "id", "jobs", "loaded", "more", "name", "saved", "state")

    def __init__(self, found: HostJobs) -> None:
        self.id = found.id
        self.name = found.name
        self.failures = found.failures
        self.jobs = deque(found.jobs)
        self.saved = found.saved
        self.loaded = max((job.link for job in found.jobs), default=-1)
        self.more = len(found.jobs) >= JOBS
        self.again = False
        self.delay_s = 0.0
        self.state = "idle"  # idle, due (in the heap), busy (a task serves it), parked (its address is full)


class HostWindow:
    """At most about `size` hosts that are not parked. `call` runs a function of the state in the state's thread; `wake`
    tells that something may be due, or that all is done.
    """

    def __init__(self, size: int, state: CrawlState, call: Callable[..., Awaitable[Any]], wake: Callable[[], None]
                 ) -> None:
        self._size = size
        self._least_room = max(1, size // 4)  # hosts are fetched from the state in some numbers, not one by one
        self._state = state
        self._call = call
        self._hosts: dict[int, Host] = {}
        self._in_hand: set[int] = set()
        self._due: list[tuple[float, int, Host]] = []
        self._order = 0
        self._cursor = 0
        self._at_end = False
        self._arrivals: deque[int] = deque()
        self._starved: list[Host] = []
        self._parked = 0
        self._wake = wake
        self._changed = asyncio.Event()
        self._filling = True

    def next_due(self, now: float) -> Host | None:
        """Return a host whose time has come, now busy; None when there is none."""
        if not self._due or self._due[0][0] > now:
            return None
        host = heapq.heappop(self._due)[2]
        host.state = "busy"
        return host

    def next_time(self) -> float | None:
        """Return when the next host is due; None when none is waiting for its time."""
        return self._due[0][0] if self._due else None

    def empty(self) -> bool:
        """Whether there is nothing left, here or in the state."""
        filling = self._filling or self._changed.is_set()
        return not filling and not self._hosts and not self._arrivals and self._at_end

    def put_back(self, host: Host, when: float) -> None:
        """Take a host back from its task, due again at `when` if it has links."""
        if host.jobs:
            self._order += 1
            host.state = "due"
            heapq.heappush(self._due, (when, self._order, host))
            self._wake()
        else:
            host.state = "idle"
            self._starved.append(host)
            self._changed.set()

    def park(self, host: Host) -> None:
        """Take a host back that waits for a place at its address."""
        host.state = "parked"
        self._parked += 1

    def unpark(self, host: Host, when: float) -> None:
        """Its place is free."""
        self._parked -= 1
        self.put_back(host, when)

    def settled(self, link: int) -> None:
        """A link's end, or its move to another host, is on disk."""
        self._in_hand.discard(link)

    def arrived(self, host_id: int, job: Job, when: float) -> None:
        """A redirect to a host is on disk: serve it soon. `when` is the end of that host's pause."""
        host = self._hosts.get(host_id)
        if host is None:
            self._arrivals.append(host_id)
        elif len(host.jobs) >= JOBS:
            host.again = True
        else:
            self._take(host, [job])
            if host.state == "idle":
                self.put_back(host, when)
        self._changed.set()

    async def fill(self) -> None:
        """Bring hosts and links from the state, for as long as it is not cancelled."""
        while True:
            self._changed.clear()
            self._filling = True
            starved, self._starved = self._starved, []
            for host in starved:
                if not host.jobs:
                    await self._refill(host)
            while self._room() > 0 and self._arrivals:
                await self._admit()
            while self._room() >= self._least_room and not self._at_end:
                await self._admit()
            if not self._starved:
                self._filling = False
                self._wake()  # what there is to do may be nothing: whoever waits for that looks
                await self._changed.wait()

    def _room(self) -> int:
        return min(self._size + self._parked, 4 * self._size) - len(self._hosts)

    async def _refill(self, host: Host) -> None:
        while host.more or host.again:
            if not host.more:
                host.again, host.loaded = False, -1  # what redirects brought may be anywhere
            jobs = await self._call(self._state.jobs, host.id, host.loaded, JOBS)
            host.more = len(jobs) >= JOBS
            host.loaded = max([host.loaded, *(job.link for job in jobs)])
            self._take(host, jobs)
            if host.jobs:
                break
        if host.jobs:
            if host.state == "idle":
                self.put_back(host, 0.0)
        elif host.state == "idle":
            del self._hosts[host.id]

    async def _admit(self) -> None:
        if self._arrivals:
            wanted = [self._arrivals.popleft() for _ in range(min(len(self._arrivals), _ADMIT))]
            found = await self._call(_several, self._state, wanted)
        else:
            most = min(self._room(), _ADMIT)
            found = await self._call(self._state.hosts_after, self._cursor, most, JOBS)
            self._at_end = len(found) < most
            self._cursor = found[-1].id if found else self._cursor
        for entry in found:
            if entry.id not in self._hosts:
                jobs, entry.jobs = entry.jobs, []
                host = self._hosts[entry.id] = Host(entry)
                host.more = len(jobs) >= JOBS
                host.loaded = max((job.link for job in jobs), default=-1)
                self._take(host, jobs)
                self.put_back(host, 0.0)

    def _take(self, host: Host, jobs: list[Job]) -> None:
        for job in jobs:
            if job.link not in self._in_hand:
                self._in_hand.add(job.link)
                host.jobs.append(job)


def _several(state: CrawlState, numbers: list[int]) -> list[HostJobs]:
    return [state.host(number, JOBS) for number in dict.fromkeys(numbers)]
