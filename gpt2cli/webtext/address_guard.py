"""Which addresses and ports a crawler may connect to: the public internet on web ports, unless a range is allowed.

A link is a stranger's wish. It must not reach this machine, its network or a cloud's metadata service, whether
written as a literal, as a name that resolves there, or as the target of a redirect; the check is made on the
address of every socket (connector.py), so it cannot be walked around.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass

from gpt2cli.errors import UsageFault

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

WEB_PORTS = frozenset({80, 443, 8080, 8443})

_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
_NEVER = tuple(
    ipaddress.ip_network(text)
    for text in (
        # What ipaddress.is_global lets through, or lets through in some Python versions.
        "192.0.0.0/24",      # IETF protocol assignments
        "192.88.99.0/24",    # 6to4 relay anycast (RFC 7526)
        "192.31.196.0/24",   # AS112
        "192.52.193.0/24",   # AMT
        "192.175.48.0/24",   # AS112
        "224.0.0.0/4",       # multicast
        "2001::/23",         # IETF protocol assignments: Teredo, benchmarking, ORCHID
        "2001:db8::/32",     # documentation
        "2002::/16",         # 6to4: carries any IPv4 address
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",         # documentation (RFC 9637)
    )
)


def is_public(address: Address) -> bool:
    """Return whether `address` is an ordinary unicast address of the public internet.

    False also for multicast, IPv4-mapped and -compatible, NAT64, 6to4, Teredo, site-local and documentation ranges.
    """
    if isinstance(address, ipaddress.IPv6Address) and (address.scope_id or address not in _GLOBAL_V6):
        return False
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    return not any(address.version == network.version and address in network for network in _NEVER)


def parse_network(text: str) -> Network:
    """Return the network of a CIDR such as 127.0.0.0/8; raise UsageFault for anything else."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise UsageFault(f"--allow-net {text}: {error}; write a network such as 127.0.0.0/8") from None


@dataclass(frozen=True)
class AddressGuard:
    """Judges addresses. `allow` lifts both rules for its ranges; `public` is the predicate (tests give their own)."""

    allow: tuple[Network, ...] = ()
    public: Callable[[Address], bool] = is_public
    ports: frozenset[int] = WEB_PORTS

    def refusal(self, host: str, port: int) -> str | None:
        """Return why a connection to the literal address `host` is refused, or None when it may be made.

        The answer is "refused_address" or "refused_port", as in outcomes.py.
        """
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return "refused_address"
        if any(address.version == network.version and address in network for network in self.allow):
            return None
        if not self.public(address):
            return "refused_address"
        return None if port in self.ports else "refused_port"
