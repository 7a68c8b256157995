"""One HTTP request and its answer, with every way it can go wrong turned into a FetchFault."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import aiohttp
from yarl import URL

from gpt2cli.webtext.body import ACCEPT_ENCODING, BodyDecoder
from gpt2cli.webtext.byte_budget import Ticket
from gpt2cli.webtext.connector import Refused
from gpt2cli.webtext.outcomes import FetchFault
from gpt2cli.webtext.warc import Headers, Response, utc_now

REDIRECTS = frozenset({301, 302, 303, 307, 308})
BUSY_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses by which a server asks for another try, or is in trouble."""
MAX_FIELD = 16_384
"""Bytes of a header line; there may be 128 of them."""
_CLOSE = {"Connection": "close"}
_HTML = ("text/html", "application/xhtml+xml")
_STEP = 1 << 16
_TRANSIENT = frozenset({"connect_failed", "disconnected", "incomplete"})
_KINDS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
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


@dataclass(frozen=True, slots=True)
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


async def exchange(session: aiohttp.ClientSession, url: URL, limits: ExchangeLimits, ticket: Ticket,
                   keep_alive: bool) -> Response:
    """Return the answer to a GET of `url`, redirects not followed; a status other than 200 has an empty body.

    The body's bytes are taken from the ticket's budget, and remain the caller's to release; a timeout after waiting for
    them is transient. keep_alive: whether the connection is wanted again. Raises FetchFault.
    """
    try:
        async with asyncio.timeout(limits.timeout_s):
            async with session.get(url, allow_redirects=False, headers=None if keep_alive else _CLOSE) as answer:
                return await _read(answer, limits, ticket, keep_alive)
    except FetchFault:
        raise
    except Exception as error:
        # A hostile server may drive the client library into any exception; the crawl goes on.
        fault = _classify(error)
        fault.transient |= fault.outcome == "timeout" and ticket.waited > 0  # not the server's doing alone
        raise fault from None


async def _read(answer: aiohttp.ClientResponse, limits: ExchangeLimits, ticket: Ticket, keep_alive: bool) -> Response:
    headers: Headers = tuple(
        (key.decode("latin-1"), value.decode("utf-8", "replace")) for key, value in answer.raw_headers
    )
    peer = answer.connection.transport.get_extra_info("peername") if _connected(answer) else None  # type: ignore[union-attr]
    body = bytearray()
    if answer.status == 200:
        if limits.page:
            _require_html(answer)
        body = await _read_body(answer, limits, ticket)
    if not keep_alive or answer.status != 200:
        answer.close()  # nobody will read the rest of it
    return Response(str(answer.url), utc_now(), answer.status, answer.reason or "", headers, body,
                    str(peer[0]) if peer else None)


def _connected(answer: aiohttp.ClientResponse) -> bool:
    return answer.connection is not None and answer.connection.transport is not None


async def _read_body(answer: aiohttp.ClientResponse, limits: ExchangeLimits, ticket: Ticket) -> bytearray:
    decoder = BodyDecoder(answer.headers.get("Content-Encoding"), limits.max_bytes)
    try:
        async for chunk in answer.content.iter_any():
            decoder.feed(chunk)
            while decoder.hungry:
                if not ticket.take(_STEP):
                    await ticket.wait(_STEP)
                ticket.give_back(_STEP - decoder.step(_STEP))
        return decoder.finish()
    except FetchFault as fault:
        if limits.page or fault.outcome != "too_big":
            decoder.discard()
            raise
        return decoder.beginning()
    except BaseException:
        decoder.discard()
        raise


def _require_html(answer: aiohttp.ClientResponse) -> None:
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind and kind not in _HTML:
        raise FetchFault("not_html", kind[:100])


def _classify(error: Exception) -> FetchFault:
    cause = getattr(error, "os_error", None)
    if isinstance(cause, Refused):
        return FetchFault(cause.outcome)
    for kind, outcome in _KINDS:
        if isinstance(error, kind):
            return FetchFault(outcome, str(error)[:200], transient=outcome in _TRANSIENT)
    return FetchFault("bad_response", type(error).__name__)
