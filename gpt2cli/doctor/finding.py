"""One thing that was looked at: what it is, whether that is well, and what to do about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

State = Literal["good", "note", "bad"]
"""good: as it should be; note: works, but less or slower than it could; bad: a command will fail for it."""


@dataclass(frozen=True)
class Finding:
    """`value` is what was found of `name`, a person's words; `advice` says what to do where state isn't good."""

    topic: str
    name: str
    value: str
    state: State = "good"
    advice: str = ""

    def record(self) -> dict[str, object]:
        """Return the fields of a gpt2.doctor/1 record."""
        return asdict(self)


def binary_size(number: float) -> str:
    """Return bytes as a person reads them: 6.4 GiB, 512 MiB."""
    for unit, size in (("TiB", 1 << 40), ("GiB", 1 << 30)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number / (1 << 20):.0f} MiB"
