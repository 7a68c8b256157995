"""Politeness: one request at a time to a host, and a pause after each."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class HostGates:
    """A gate per host name. Whoever passes has the host alone, at least `gap_s` after the last one left."""

    def __init__(self, gap_s: float) -> None:
        self._gap_s = gap_s
        self._locks: dict[str, asyncio.Lock] = {}
        self._free_at: dict[str, float] = {}

    @contextlib.asynccontextmanager
    async def passing(self, host: str) -> AsyncIterator[None]:
        """Wait for the host, hold it for the block, and start its pause afterwards."""
        loop = asyncio.get_running_loop()
        lock = self._locks.setdefault(host, asyncio.Lock())
        async with lock:
            wait = self._free_at.get(host, 0.0) - loop.time()
            if wait > 0:
                await asyncio.sleep(wait)
            try:
                yield
            finally:
                self._free_at[host] = loop.time() + self._gap_s

    def free_at(self, host: str) -> float:
        """Return the loop time at which the host's pause ends (0: never used)."""
        return self._free_at.get(host, 0.0)
