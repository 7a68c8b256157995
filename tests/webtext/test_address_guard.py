"""The predicate alone, on address strings: no socket is made here."""

from __future__ import annotations

import ipaddress

import pytest

from gpt2cli.errors import UsageFault
from gpt2cli.webtext.address_guard import AddressGuard, is_public, parse_network

PUBLIC = ["8.8.8.8", "93.184.216.34", "151.101.1.69", "2606:4700::6810:84e5", "2a00:1450:4001:81b::200e"]
NOT_PUBLIC = {
    "this network": "0.0.0.0", "loopback": "127.0.0.1", "far loopback": "127.255.255.254", "private ten": "10.1.2.3",
    "private 172": "172.31.255.255", "private 192": "192.168.1.1", "link-local": "169.254.1.1",
    "metadata": "169.254.169.254", "carrier NAT": "100.64.0.1", "protocol assignments": "192.0.0.9",
    "documentation 1": "192.0.2.1", "documentation 2": "198.51.100.1", "documentation 3": "203.0.113.7",
    "benchmarks": "198.18.0.1", "6to4 relay": "192.88.99.1", "multicast": "224.0.0.1",
    "wide multicast": "239.255.255.250",
    "reserved": "240.0.0.1", "broadcast": "255.255.255.255", "v6 unspecified": "::", "v6 loopback": "::1",
    "mapped loopback": "::ffff:127.0.0.1", "mapped public": "::ffff:8.8.8.8", "compatible": "::7f00:1",
    "NAT64": "64:ff9b::7f00:1", "local NAT64": "64:ff9b:1::1", "6to4": "2002:7f00:1::1", "Teredo": "2001::1",
    "v6 documentation": "2001:db8::1", "new v6 documentation": "3fff::1", "unique local": "fd00::1",
    "v6 link-local": "fe80::1", "scoped": "fe80::1%eth0", "scoped global": "2606:4700::1%1", "site-local": "fec0::1",
    "v6 multicast": "ff02::1", "global-scope multicast": "ff0e::1", "discard": "100::1", "ORCHID": "2001:20::1",
    "segment routing": "5f00::1", "v6 benchmarks": "2001:2::1",
}


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_pass(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))
    assert AddressGuard().refusal(address, 443) is None


@pytest.mark.parametrize("address", NOT_PUBLIC.values(), ids=NOT_PUBLIC.keys())
def test_everything_else_is_refused(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))
    assert AddressGuard().refusal(address, 80) == "refused_address"


@pytest.mark.parametrize("port", [22, 25, 81, 3306, 6379, 8000, 65535])
def test_only_web_ports(port: int) -> None:
    assert AddressGuard().refusal("8.8.8.8", port) == "refused_port"


@pytest.mark.parametrize("port", [80, 443, 8080, 8443])
def test_web_ports_pass(port: int) -> None:
    assert AddressGuard().refusal("8.8.8.8", port) is None


def test_allow_net_lifts_both_rules_for_its_range_only() -> None:
    guard = AddressGuard(allow=(parse_network("127.0.0.0/8"),))
    assert guard.refusal("127.0.0.1", 17017) is None
    assert guard.refusal("127.9.9.9", 22) is None
    assert guard.refusal("10.0.0.1", 80) == "refused_address"
    assert guard.refusal("::1", 80) == "refused_address"
    assert guard.refusal("::ffff:127.0.0.1", 80) == "refused_address"
    assert guard.refusal("8.8.8.8", 22) == "refused_port"


def test_what_is_no_address_is_refused() -> None:
    assert AddressGuard().refusal("localhost", 80) == "refused_address"


@pytest.mark.parametrize("text", ["localhost", "127.0.0.1/8", "10.0.0.0/40", ""])
def test_a_bad_network_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageFault, match="--allow-net"):
        parse_network(text)
