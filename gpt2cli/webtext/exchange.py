"""One HTTP request and its answer, with every way it can go wrong turned into a FetchFault."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import aiohttp
from yarl import URL

from gpt2cli.webtext.body import ACCEPT_ENCODING, BodyDecoder
from gpt2cli.webtext.connector import Refused
from gpt2cli.webtext.outcomes import FetchFault
from gpt2cli.webtext.warc import Headers, Response, utc_now

REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HTML = ("text/html", "application/xhtml+xml")
_CHUNK = 1 << 16


@dataclass(frozen=True)
class ExchangeLimits:
    """What one request may cost: seconds in all, and decoded bytes.

    page: the answer must be HTML and whole; otherwise (robots.txt) any type will do, and a long body is cut.
    """

    timeout_s: float
    max_bytes: int
    page: bool = True


def request_headers(user_agent: str) -> dict[str, str]:
    """Return the headers of every request."""
    return {
        "User-Agent": user_agent,
        "Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.1",
        "Accept-Language": "en,*;q=0.5",
        "Accept-Encoding": ACCEPT_ENCODING,
    }


async def exchange(session: aiohttp.ClientSession, url: str, limits: ExchangeLimits) -> Response:
    """Return the answer to a GET of `url`, redirects not followed; a status other than 200 has an empty body.

    Raises FetchFault.
    """
    try:
        async with asyncio.timeout(limits.timeout_s):
            return await _get(session, url, limits)
    except FetchFault:
        raise
    except Exception as error:
        # A hostile server may drive the client library into any exception; the crawl goes on.
        raise _classify(error) from None


async def _get(session: aiohttp.ClientSession, url: str, limits: ExchangeLimits) -> Response:
    async with session.get(URL(url), allow_redirects=False) as answer:
        headers: Headers = tuple(
            (key.decode("latin-1"), value.decode("utf-8", "replace")) for key, value in answer.raw_headers
        )
        body = b""
        if answer.status == 200:
            if limits.page:
                _require_html(answer)
            body = await _read_body(answer, limits)
        return Response(url, utc_now(), answer.status, answer.reason or "", headers, body)


async def _read_body(answer: aiohttp.ClientResponse, limits: ExchangeLimits) -> bytes:
    decoder = BodyDecoder(answer.headers.get("Content-Encoding"), limits.max_bytes)
    try:
        async for chunk in answer.content.iter_chunked(_CHUNK):
            decoder.feed(chunk)
    except FetchFault as fault:
        if limits.page or fault.outcome != "too_big":
            raise
        return decoder.beginning()
    return decoder.finish()


def _require_html(answer: aiohttp.ClientResponse) -> None:
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind and kind not in _HTML:
        raise FetchFault("not_html", kind[:100])


def _classify(error: Exception) -> FetchFault:
    cause = getattr(error, "os_error", None)
    if isinstance(cause, Refused):
        return FetchFault(cause.outcome)
    if cause is not None and "refused_" in str(cause):
        # several addresses, refused for reasons that asyncio folded into one text
        return FetchFault("refused_address")
    kinds: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
        (TimeoutError, "timeout"),
        ((aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError), "tls_failed"),
        (aiohttp.ClientConnectorDNSError, "dns_failed"),
        (aiohttp.ClientConnectorError, "connect_failed"),
        ((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError), "disconnected"),
        (aiohttp.ClientPayloadError, "incomplete"),
        (aiohttp.ClientResponseError, "bad_response"),
        ((aiohttp.InvalidURL, UnicodeError), "bad_url"),
        (ConnectionError, "disconnected"),
    )
    for kind, outcome in kinds:
        if isinstance(error, kind):
            return FetchFault(outcome, str(error)[:200])
    return FetchFault("bad_response", type(error).__name__)
