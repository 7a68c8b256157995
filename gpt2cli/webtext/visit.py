"""One step of one link: at most one request, to its host's robots.txt or to the page, and what follows from it.

A redirect within a host and another try are steps of the same link; a redirect to another host is handed over, so
that the link waits there for its turn without keeping anyone from theirs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

import aiohttp
from yarl import URL

from gpt2cli.webtext.back_off import Pauses
from gpt2cli.webtext.byte_budget import ByteBudget, Ticket
from gpt2cli.webtext.connector import KEEP_ALIVE_S, PinnedResolver
from gpt2cli.webtext.crawl_state import Job
from gpt2cli.webtext.exchange import BUSY_STATUSES, REDIRECTS, ExchangeLimits, exchange
from gpt2cli.webtext.fetch_config import FetchConfig
from gpt2cli.webtext.gates import AddressGates, HostGates
from gpt2cli.webtext.host_window import Host
from gpt2cli.webtext.hosts import exclusion
from gpt2cli.webtext.outcomes import OK, FetchFault
from gpt2cli.webtext.resolver import Resolver
from gpt2cli.webtext.robots import MAX_AGE_S, MAX_ROBOTS, Rules, RulesCache, parse_rules, relevant_lines
from gpt2cli.webtext.urls import clean_url, host_of, origin_of
from gpt2cli.webtext.warc import Response, utc_now

_MAX_ROBOTS_REDIRECTS = 5
_HOST_FAILURES = frozenset({"connect_failed", "timeout", "disconnected", "dns_failed", "tls_failed"})
# When the host itself can't be had, the page can't either: its outcome says so instead of blaming robots.txt.
_PASSED_ON = _HOST_FAILURES - {"timeout", "disconnected"} | {"refused_address", "refused_port", "bad_url"}

Recall = Callable[[int, str], Awaitable[tuple[int, str]]]


@dataclass(slots=True)
class Done:
    """The link's end: the fields of its page, and the response with the budget's ticket for its body."""

    fields: dict[str, Any]
    response: Response | None = None
    ticket: Ticket | None = None


@dataclass(slots=True)
class Moved:
    """The job goes on at another host."""

    host: str


@dataclass(slots=True)
class Later:
    """The job goes on at this host, in `wait_s` seconds at the earliest. saved: (origin, UTC s, rules) to keep."""

    wait_s: float = 0.0
    saved: tuple[str, int, str] | None = None


@dataclass(slots=True)
class Full:
    """There are too many requests at this address; nothing was done."""

    address: str


class _NotNow(Exception):
    def __init__(self, step: Later | Full) -> None:
        self.step = step


@dataclass(slots=True)
class _Inquiry:
    """A robots.txt that is being asked for: the URL to ask next."""

    url: str
    redirects: int = 0
    attempts: int = 0


class Visitor:
    """Makes the steps of a crawl. recall: reads saved rules (host id, origin) from the state. freed: told of the host
    that had waited for a place at an address, when one is free.
    """

    def __init__(self, session: aiohttp.ClientSession, pins: PinnedResolver, config: FetchConfig,
                 recall: Recall, freed: Callable[[Host | None], None]) -> None:
        self._session = session
        self._pins = pins.pins
        self._config = config
        self._recall = recall
        self._freed = freed
        self._pauses = Pauses(config.host_gap_s, config.max_delay_s)
        self._resolver = Resolver(config.guard)
        self._rules = RulesCache()
        self._inquiries: dict[str, _Inquiry] = {}
        self.budget = ByteBudget(config.body_memory)
        self.hosts = HostGates(config.host_gap_s)
        self.addresses: AddressGates[Host] = AddressGates(config.per_address)

    async def step(self, host: Host, job: Job) -> Done | Moved | Later | Full:
        """Make the job's next step. The host's failures, pauses and job are kept up to date."""
        try:
            if host.failures >= self._config.host_failures:
                raise FetchFault("host_down", f"{host.failures} failures in a row")
            origin = origin_of(job.url)
            rules = await self._known_rules(host, origin)
            if rules is None:
                return await self._ask_robots(host, origin)
            refusal = rules.refuses(job.url)
            if refusal is not None:
                raise FetchFault(refusal)
            host.delay_s = self._pauses.crawl_delay(rules.delay_s)
            return await self._ask_page(host, job)
        except _NotNow as no:
            return no.step
        except FetchFault as fault:
            return _ended(fault)

    async def _ask_page(self, host: Host, job: Job) -> Done | Moved | Later:
        ticket = Ticket(self.budget)
        began = asyncio.get_running_loop().time()
        try:
            limits = ExchangeLimits(max(self._config.timeout_s - job.spent, 0.001), self._config.max_bytes)
            answer = await self._request(host, job.url, limits, ticket, job.attempts)
            if answer.status in REDIRECTS:
                step = self._redirected(host, job, answer)
                ticket.release()
                return step
            if answer.status != 200:
                raise FetchFault("http_error", f"status {answer.status}", answer.status,
                                 transient=answer.status in BUSY_STATUSES)
        except FetchFault as fault:
            ticket.release()
            if not fault.transient or job.attempts >= self._config.retries:
                raise
            job.attempts += 1
            return Later()
        except BaseException:
            ticket.release()
            raise
        finally:
            job.spent += asyncio.get_running_loop().time() - began - ticket.waited
        return Done({"outcome": OK, "status": answer.status, "final_url": answer.url, "bytes": len(answer.body),
                     "retrieved": answer.date}, answer, ticket)

    def _redirected(self, host: Host, job: Job, answer: Response) -> Moved | Later:
        url = self._target(answer)
        if url == job.url or url in job.hops:
            raise FetchFault("redirect_loop")
        if len(job.hops) >= self._config.max_redirects:
            raise FetchFault("too_many_redirects")
        job.hops = (*job.hops, job.url)
        job.url = url
        name = host_of(url)
        return Later() if name == host.name else Moved(name)

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

    async def _known_rules(self, host: Host, origin: str) -> Rules | None:
        now = time.time()
        rules = self._rules.get(origin, now)
        if rules is None and origin in host.saved:
            host.saved.discard(origin)
            fetched, text = await self._recall(host.id, origin)
            if fetched <= now < fetched + MAX_AGE_S:
                host.saved.add(origin)
                rules = self._keep(origin, text, fetched)
        return rules

    def _keep(self, origin: str, text: str, fetched: float) -> Rules:
        rules = parse_rules(text)
        self._rules.put(origin, rules, len(text), fetched + MAX_AGE_S)
        return rules

    async def _ask_robots(self, host: Host, origin: str) -> Done | Later | Full:
        inquiry = self._inquiries.setdefault(origin, _Inquiry(f"{origin}/robots.txt"))
        ticket = Ticket(self.budget)
        try:
            limits = ExchangeLimits(self._config.timeout_s, MAX_ROBOTS, page=False)
            answer = await self._request(host, inquiry.url, limits, ticket, inquiry.attempts)
            if answer.status in BUSY_STATUSES:
                raise FetchFault("robots_unreachable", f"status {answer.status}", transient=True)
            text = _robots_text(answer, inquiry)
            if text is None:
                return Later()
        except FetchFault as fault:
            if fault.transient and inquiry.attempts < self._config.retries:
                inquiry.attempts += 1
                return Later()
            own = host_of(inquiry.url) == host.name
            outcome = fault.outcome if fault.outcome in _PASSED_ON and own else "robots_unreachable"
            self._rules.put(origin, Rules(refusal=outcome), 0, time.time() + MAX_AGE_S)
            del self._inquiries[origin]
            return Later()
        finally:
            ticket.release()
        del self._inquiries[origin]
        fetched = int(time.time())
        self._keep(origin, text, fetched)
        host.saved.add(origin)
        return Later(saved=(origin, fetched, text))

    async def _request(self, host: Host, url: str, limits: ExchangeLimits, ticket: Ticket, attempt: int) -> Response:
        """Make one polite request, or raise _NotNow. The failures of `host`, and all pauses, follow from its end."""
        loop = asyncio.get_running_loop()
        target, name = _parsed(url), host_of(url)
        raw_host = target.raw_host or ""
        try:
            async with asyncio.timeout(limits.timeout_s):
                addresses = await self._resolver.addresses(raw_host, target.port or 0)
        except (TimeoutError, FetchFault) as error:
            fault = error if isinstance(error, FetchFault) else FetchFault("dns_failed", "no answer", transient=True)
            if fault.transient:
                self.hosts.rest(name, loop.time() + self._failed(host, name, 0.0))
            raise fault from None
        address = addresses[attempt % len(addresses)]
        wait = self.hosts.wait(name, loop.time())
        if wait > 0:
            raise _NotNow(Later(wait))
        if not self.addresses.enter(address):
            raise _NotNow(Full(address))
        self.hosts.enter(name)
        pause = host.delay_s if name == host.name else 0.0
        try:
            self._pins[raw_host] = address
            keep_alive = (bool(host.jobs) or not limits.page) and max(pause, self._config.host_gap_s) < KEEP_ALIVE_S
            answer = await exchange(self._session, target, limits, ticket, keep_alive)
            if answer.status in BUSY_STATUSES:
                asked_s = self._pauses.retry_after(answer.header("retry-after"), answer.header("date"))
                pause = self._failed(host, name, asked_s)
            elif name == host.name:
                host.failures = 0
            return answer
        except FetchFault as fault:
            if fault.outcome in _HOST_FAILURES:
                pause = self._failed(host, name, 0.0)
            raise
        finally:
            self._pins.pop(raw_host, None)
            self.hosts.leave(name, loop.time(), pause)
            self._freed(self.addresses.leave(address))

    def _failed(self, host: Host, name: str, asked_s: float) -> float:
        """Count a failure of a host; return the pause it is given, at least what it asked for."""
        if name != host.name:
            return asked_s
        host.failures += 1
        return max(asked_s, host.delay_s, self._pauses.after_failure(name, host.failures))


def _parsed(url: str) -> URL:
    try:
        return URL(url)
    except ValueError as error:
        raise FetchFault("bad_url", str(error)[:200]) from None


def _robots_text(answer: Response, inquiry: _Inquiry) -> str | None:
    """Return the rules' text, or None when the inquiry goes on at another URL."""
    if answer.status in REDIRECTS and inquiry.redirects < _MAX_ROBOTS_REDIRECTS:
        try:
            inquiry.url = clean_url(urljoin(answer.url, answer.header("location") or ""))
        except ValueError:
            return ""
        inquiry.redirects += 1
        return None
    # RFC 9309, 2.3.1.2 and .3: too many redirects count as unavailable, and that as permission
    if answer.status >= 500:
        raise FetchFault("robots_unreachable", f"status {answer.status}")
    return relevant_lines(answer.body) if answer.status == 200 else ""


def _ended(fault: FetchFault) -> Done:
    fields = {"outcome": fault.outcome, "status": fault.status, "retrieved": utc_now()}
    return Done({**fields, "detail": str(fault)} if str(fault) else fields)
