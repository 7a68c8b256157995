"""robots.txt by RFC 9309, once per origin: 4xx means everything is allowed, 5xx or silence that nothing is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import urljoin

from protego import Protego

from gpt2cli.webtext.exchange import REDIRECTS
from gpt2cli.webtext.outcomes import FetchFault
from gpt2cli.webtext.urls import clean_url, origin_of
from gpt2cli.webtext.warc import Response

MAX_ROBOTS = 500 * 1024
"""Bytes of a robots.txt that are read at least (RFC 9309, 2.5); ours reads no more."""
AGENT = "gpt2cli"
_MAX_REDIRECTS = 5
# When the host itself can't be had, the page can't either: its outcome says so instead of blaming robots.txt.
_PASSED_ON = frozenset({"refused_address", "refused_port", "dns_failed", "connect_failed", "tls_failed", "bad_url"})


class RobotsCache:
    """Answers whether a URL may be fetched. `get` makes one polite request and returns its answer or FetchFault."""

    def __init__(self, get: Callable[[str], Awaitable[Response]]) -> None:
        self._get = get
        self._rules: dict[str, asyncio.Future[Protego | str]] = {}

    async def refusal(self, url: str) -> str | None:
        """Return None when robots.txt allows `url`, else the outcome: robots_denied, robots_unreachable, ..."""
        origin = origin_of(url)
        future = self._rules.get(origin)
        if future is None:
            future = asyncio.get_running_loop().create_future()
            self._rules[origin] = future
            try:
                future.set_result(await self._load(origin))
            except BaseException:
                # cancelled: whoever asks next asks anew
                self._rules.pop(origin, None)
                future.cancel()
                raise
        rules = await asyncio.shield(future)
        if isinstance(rules, str):
            return rules
        return None if rules.can_fetch(url, AGENT) else "robots_denied"

    async def _load(self, origin: str) -> Protego | str:
        url = f"{origin}/robots.txt"
        for _ in range(_MAX_REDIRECTS + 1):
            try:
                answer = await self._get(url)
            except FetchFault as fault:
                return fault.outcome if fault.outcome in _PASSED_ON else "robots_unreachable"
            if answer.status in REDIRECTS:
                try:
                    url = clean_url(urljoin(url, answer.header("location") or ""))
                except ValueError:
                    return _parse(b"")
                continue
            if answer.status == 200:
                return _parse(answer.body)
            return _parse(b"") if 400 <= answer.status < 500 else "robots_unreachable"
        return _parse(b"")  # RFC 9309, 2.3.1.2: too many redirects count as unavailable


def _parse(body: bytes) -> Protego:
    return Protego.parse(body[:MAX_ROBOTS].decode("utf-8", "replace").removeprefix("\ufeff"))

