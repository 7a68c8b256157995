"""A share of the work for one of several machines that need not know of each other."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Share:
    """Share `number` of `count`, numbered from 1."""

    number: int = 1
    count: int = 1

    def has(self, name: str) -> bool:
        """Whether what is called `name` falls in this share: by a hash that is the same everywhere."""
        if self.count == 1:
            return True
        digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return int.from_bytes(digest, "little") % self.count == self.number - 1

    def of(self, items: Sequence[Item]) -> list[Item]:
        """Return this share's items: consecutive ones, so that the shares in order are all items in order."""
        first, behind = ((len(items) * edge) // self.count for edge in (self.number - 1, self.number))
        return list(items[first:behind])


EVERYTHING = Share()
"""The only share there is."""
