"""How long a host is left alone: the gap, what it asks for itself, and longer after each failure.

No pause depends on a random source: the jitter is a hash of the host's name and the number of the failure. Nor on the
clock, but for a Retry-After date of a server that does not tell what its own clock says.
"""

from __future__ import annotations

import email.utils
import hashlib
import time
from dataclasses import dataclass

FIRST_WAIT_IN_GAPS = 5.0
"""The pause after a first failure, in host gaps; it doubles with each further one."""


@dataclass(frozen=True)
class Pauses:
    """`gap_s` between two requests to a host; no pause that a host asks for or fails into is above `max_s`."""

    gap_s: float
    max_s: float

    def crawl_delay(self, asked_s: float | None) -> float:
        """Return the gap of a host whose robots.txt asks for `asked_s` (None: for nothing)."""
        return max(self.gap_s, min(asked_s or 0.0, self.max_s))

    def after_failure(self, host: str, failures: int) -> float:
        """Return the pause after the `failures`-th failure in a row: doubling, half to one and a half of that."""
        doubled = self.gap_s * FIRST_WAIT_IN_GAPS * 2.0 ** min(failures - 1, 32)
        return max(self.gap_s, min(doubled * (0.5 + _jitter(host, failures)), self.max_s))

    def retry_after(self, value: str | None, date: str | None = None) -> float:
        """Return the pause that a Retry-After header asks for: seconds or an HTTP date; 0 for none or nonsense.

        date: the answer's Date header, from which a date is counted, as our own clock may be wrong.
        """
        text = (value or "").strip()
        if text.isascii() and text.isdigit():
            return min(float(text[:9]), self.max_s)
        until = _seconds_of(text)
        if until is None:
            return 0.0
        now = _seconds_of(date or "")
        return max(0.0, min(until - (time.time() if now is None else now), self.max_s))


def _seconds_of(date: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError, OSError):
        return None


def _jitter(host: str, failures: int) -> float:
    digest = hashlib.blake2b(f"{host} {failures}".encode("utf-8", "surrogatepass"), digest_size=4).digest()
    return int.from_bytes(digest, "little") / 2**32
