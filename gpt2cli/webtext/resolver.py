"""Host names to addresses that the guard accepts, looked up in threads and remembered for some minutes."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections import OrderedDict

from gpt2cli.webtext.address_guard import AddressGuard
from gpt2cli.webtext.outcomes import FetchFault

REMEMBERED = 20_000
"""Names kept at most."""
TTL_S = 300.0
"""Seconds that an answer, also a negative one, is used."""
_TEMPORARY = frozenset({socket.EAI_AGAIN, getattr(socket, "EAI_SYSTEM", socket.EAI_AGAIN)})


class Resolver:
    """Resolves names; every answer has passed the guard, and so has every socket made for it once more."""

    def __init__(self, guard: AddressGuard) -> None:
        self._guard = guard
        self._known: OrderedDict[tuple[str, int], tuple[float, tuple[str, ...] | FetchFault]] = OrderedDict()

    async def addresses(self, host: str, port: int) -> tuple[str, ...]:
        """Return the accepted addresses of a name or literal, the system's first choice first.

        Raises FetchFault: refused_address, refused_port or dns_failed.
        """
        literal = _literal(host)
        if literal is not None:
            refusal = self._guard.refusal(literal, port)
            if refusal is not None:
                raise FetchFault(refusal)
            return (literal,)
        now = asyncio.get_running_loop().time()
        known = self._known.get((host, port))
        if known is None or known[0] < now:
            known = (now + TTL_S, await self._look_up(host, port))
            self._known[host, port] = known
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        if isinstance(known[1], FetchFault):
            if known[1].transient:
                self._known.pop((host, port), None)
            raise known[1]
        return known[1]

    async def _look_up(self, host: str, port: int) -> tuple[str, ...] | FetchFault:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        except socket.gaierror as error:
            return FetchFault("dns_failed", str(error), transient=error.errno in _TEMPORARY)
        except (OSError, UnicodeError) as error:
            return FetchFault("dns_failed", str(error)[:200])
        refusals = []
        accepted: dict[str, None] = {}
        for *_, (name, _, *scope) in found:
            # an IPv6 scope id is link-local in disguise
            refusal = "refused_address" if any(scope[1:]) else self._guard.refusal(str(name), port)
            if refusal is None:
                accepted[str(name)] = None
            else:
                refusals.append(refusal)
        if not accepted:
            return FetchFault(refusals[0] if refusals else "dns_failed")
        return tuple(accepted)


def _literal(host: str) -> str | None:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None
