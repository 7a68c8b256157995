"""The ends a fetch can come to. Every URL gets exactly one; only `ok` has a body in the WARC."""

from __future__ import annotations

from types import MappingProxyType

OK = "ok"
OUTCOMES = MappingProxyType(
    {
        OK: "the page is in the WARC",
        "http_error": "the server answered with another status than 200 (the record has it)",
        "not_html": "the content type is neither HTML nor absent",
        "too_big": "more decoded bytes than --max-bytes",
        "timeout": "not finished within --timeout",
        "refused_address": "the host is, or resolves to, an address that is not public",
        "refused_port": "a port other than 80, 443, 8080 and 8443",
        "robots_denied": "robots.txt disallows it",
        "robots_unreachable": "robots.txt could not be had (5xx, cut off): RFC 9309 says disallow",
        "host_down": "the host has failed --host-failures times in a row, and was not asked for this one",
        "excluded_host": "a redirect led to Wikipedia, Reddit or a media host",
        "too_many_redirects": "more redirects than allowed",
        "redirect_loop": "a redirect led to a URL already visited",
        "bad_redirect": "a redirect without a usable http(s) target",
        "dns_failed": "the host name has no address",
        "connect_failed": "nothing answers at the address",
        "tls_failed": "no valid TLS connection",
        "disconnected": "the connection was closed or reset before the answer was complete",
        "incomplete": "fewer bytes than the server announced",
        "bad_encoding": "the compressed body is damaged or of an unknown coding",
        "bad_response": "not HTTP, or headers beyond the limits",
        "bad_url": "no request can be made of this URL",
    }
)
"""Outcome -> what it means."""


class FetchFault(Exception):
    """A fetch that ended other than well; `outcome` is one of OUTCOMES.

    transient: another try may end better. wait_s: what the server asked for by Retry-After, in seconds.
    """

    def __init__(self, outcome: str, detail: str = "", status: int | None = None, *, transient: bool = False,
                 wait_s: float = 0.0) -> None:
        super().__init__(detail.encode("utf-8", "backslashreplace").decode())  # headers may hold any bytes
        self.outcome = outcome
        self.status = status
        self.transient = transient
        self.wait_s = wait_s
