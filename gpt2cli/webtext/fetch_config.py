"""How to fetch: the options of step 2."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import gpt2cli
from gpt2cli.webtext.address_guard import AddressGuard
from gpt2cli.webtext.robots import AGENT


@dataclass(frozen=True)
class FetchConfig:
    """How to fetch. Times in seconds; `max_bytes` counts decoded bytes of a page; `contact` is a URL or None.

    max_delay_s: the longest pause a host may ask for or fail into. per_address: requests at once to one address.
    retries: further tries of a link after a failure that may pass. host_failures: failures in a row that end a host.
    body_memory: bytes of all bodies in flight together. warc: zst or gz. again: outcomes that are fetched once more.
    """

    work: Path
    concurrency: int = 64
    host_gap_s: float = 1.0
    timeout_s: float = 30.0
    max_bytes: int = 5_000_000
    max_redirects: int = 5
    contact: str | None = None
    host_profile: str = "webtext"
    guard: AddressGuard = field(default_factory=AddressGuard)
    max_delay_s: float = 120.0
    per_address: int = 8
    retries: int = 2
    host_failures: int = 10
    body_memory: int = 128 << 20
    warc: str = "zst"
    again: tuple[str, ...] = ()

    @property
    def user_agent(self) -> str:
        """What servers are told about us."""
        about = f" (+{self.contact})" if self.contact else ""
        return f"{AGENT}/{gpt2cli.__version__}{about}"
