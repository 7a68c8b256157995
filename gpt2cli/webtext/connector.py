"""aiohttp sockets that the address guard has seen: every connect of every request, however its address was found."""

from __future__ import annotations

import errno
import ipaddress
import socket
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from gpt2cli.webtext.address_guard import AddressGuard

_RECEIVE_BUFFER = 1 << 16
KEEP_ALIVE_S = 4.0
"""Seconds that an idle connection is kept for the next request to its host; many servers close theirs after five."""


class Refused(OSError):
    """The guard's no, in a form that aiohttp carries to the caller as `os_error`. `outcome` is as in outcomes.py."""

    def __init__(self, outcome: str) -> None:
        super().__init__(errno.EACCES, outcome)
        self.outcome = outcome


class PinnedResolver(AbstractResolver):
    """Gives the one address that was chosen for a host before its request (resolver.py looks names up)."""

    def __init__(self) -> None:
        self.pins: dict[str, str] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the pinned address of `host`; Refused when there is none."""
        address = self.pins.get(host)
        if address is None:
            raise Refused("refused_address")
        version = ipaddress.ip_address(address).version
        return [ResolveResult(hostname=host, host=address, port=port, proto=0, flags=socket.AI_NUMERICHOST,
                              family=socket.AF_INET if version == 4 else socket.AF_INET6)]

    async def close(self) -> None:
        """There is nothing to close."""


def guarded_connector(guard: AddressGuard, resolver: PinnedResolver) -> aiohttp.TCPConnector:
    """Return a connector whose sockets are made only for accepted addresses, one connection per host and port.

    The check in the socket factory is the one that counts: it sees the very address that is connected to, also for
    literals, which no resolver sees. Nothing is cached here. The receive buffer is small, so that a server cannot fill
    memory faster than the body is read.
    """

    def make_socket(address_info: Any) -> socket.socket:
        family, kind, protocol, _, address = address_info
        refusal = guard.refusal(str(address[0]), int(address[1]))
        if refusal is None and len(address) == 4 and address[3]:
            refusal = "refused_address"  # an IPv6 scope id: link-local in disguise
        if refusal is not None:
            raise Refused(refusal)
        made = socket.socket(family, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        return made

    return aiohttp.TCPConnector(
        resolver=resolver, use_dns_cache=False, limit=0, limit_per_host=1, force_close=False,
        keepalive_timeout=KEEP_ALIVE_S, happy_eyeballs_delay=None, socket_factory=make_socket,
    )
