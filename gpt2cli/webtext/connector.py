"""aiohttp sockets that the address guard has seen: every connect of every request, however its address was found."""

from __future__ import annotations

import errno
import socket
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from gpt2cli.webtext.address_guard import AddressGuard


class Refused(OSError):
    """The guard's no, in a form that aiohttp carries to the caller as `os_error`. `outcome` is as in outcomes.py."""

    def __init__(self, outcome: str) -> None:
        super().__init__(errno.EACCES, outcome)
        self.outcome = outcome


class GuardedResolver(AbstractResolver):
    """Resolves names and keeps the addresses the guard accepts; raises Refused when it accepts none of them."""

    def __init__(self, guard: AddressGuard) -> None:
        self._guard = guard
        self._inner = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the accepted addresses of `host`."""
        found = await self._inner.resolve(host, port, family)
        refusals = [self._guard.refusal(entry["host"], port) for entry in found]
        accepted = [entry for entry, refusal in zip(found, refusals, strict=True) if refusal is None]
        if found and not accepted:
            raise Refused(refusals[0] or "refused_address")
        return accepted

    async def close(self) -> None:
        """Close the inner resolver."""
        await self._inner.close()


def guarded_connector(guard: AddressGuard, limit: int) -> aiohttp.TCPConnector:
    """Return a connector whose sockets are made only for accepted addresses, one connection per host and port.

    The check in the socket factory is the one that counts: it sees the very address that is connected to, also for
    literals, which no resolver sees. Names are resolved for each connection and never cached.
    """

    def make_socket(address_info: Any) -> socket.socket:
        family, kind, protocol, _, address = address_info
        refusal = guard.refusal(str(address[0]), int(address[1]))
        if refusal is None and len(address) == 4 and address[3]:
            refusal = "refused_address"  # an IPv6 scope id: link-local in disguise
        if refusal is not None:
            raise Refused(refusal)
        return socket.socket(family, kind, protocol)

    return aiohttp.TCPConnector(
        resolver=GuardedResolver(guard), use_dns_cache=False, limit=limit, limit_per_host=1, force_close=False,
        socket_factory=make_socket,
    )
