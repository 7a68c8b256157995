"""Politeness: one request at a time to a host and a pause after each; a few at a time to an address.

Nobody waits at a gate: it opens at once or says when to come again, so a slow host holds up no one else.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

Party = TypeVar("Party")
_PURGE = 4096


class HostGates:
    """A gate per host name. Who enters has the host alone until leave(), which starts the pause; loop times."""

    def __init__(self, gap_s: float) -> None:
        self._gap_s = gap_s
        self._inside: set[str] = set()
        self._free_at: dict[str, float] = {}
        self._purge_at = _PURGE

    def wait(self, host: str, now: float) -> float:
        """Return the seconds to come again in; 0: the gate is open."""
        pause = max(0.0, self._free_at.get(host, 0.0) - now)
        return max(pause, self._gap_s, 0.05) if host in self._inside else pause

    def enter(self, host: str) -> None:
        """Close the gate behind oneself."""
        assert host not in self._inside
        self._inside.add(host)

    def leave(self, host: str, now: float, pause: float = 0.0) -> None:
        """Open the gate again after the gap, or after `pause` where that is longer."""
        self._inside.discard(host)
        self.rest(host, now + max(self._gap_s, pause))
        if len(self._free_at) > self._purge_at:
            self._free_at = {name: when for name, when in self._free_at.items() if when > now}
            self._purge_at = 2 * len(self._free_at) + _PURGE

    def rest(self, host: str, until: float) -> None:
        """Keep the gate closed at least until then."""
        self._free_at[host] = max(until, self._free_at.get(host, 0.0))

    def free_at(self, host: str) -> float:
        """Return when the host's pause ends (0: it is over)."""
        return self._free_at.get(host, 0.0)


class AddressGates(Generic[Party]):
    """At most `limit` parties at an address; who finds it full is parked, and told when it is less so."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._inside: dict[str, int] = {}
        self._parked: dict[str, deque[Party]] = {}

    def enter(self, address: str) -> bool:
        """Take a place; False when there is none."""
        taken = self._inside.get(address, 0)
        if taken >= self._limit:
            return False
        self._inside[address] = taken + 1
        return True

    def park(self, address: str, party: Party) -> None:
        """Let `party` wait for a place."""
        self._parked.setdefault(address, deque()).append(party)

    def leave(self, address: str) -> Party | None:
        """Give a place back; return who has waited for it longest."""
        self._inside[address] -= 1
        if not self._inside[address]:
            del self._inside[address]
        waiting = self._parked.get(address)
        if not waiting:
            return None
        party = waiting.popleft()
        if not waiting:
            del self._parked[address]
        return party
