"""Files damaged in every way that disks and copies damage them, one way at a time and then put right again."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gpt2cli.errors import Gpt2Error

WHOLE = os.environ.get("FAULTS") == "all"
FLIPS, CUTS = (1000, 200) if WHOLE else (12, 4)
"""Flips and cuts of a file at random places: as many as the issue asks for (make test-faults), or a sample by seed."""


def places(size: int, seed: str, first: int, ends: tuple[int, ...] = ()) -> Iterator[tuple[str, int]]:
    """Yield ("flip", bit) and ("cut", bytes left): random ones, in the `first` bytes (all or a tenth), at `ends`."""
    draw = random.Random(seed)
    header = range(min(first, size))
    for byte in header if WHOLE else draw.sample(header, len(header) // 10 + 1):
        yield "flip", 8 * byte + draw.randrange(8)
    for _ in range(FLIPS):
        yield "flip", draw.randrange(8 * size)
    ends = ends if WHOLE else ends[:3]
    near = {0, 1, 3, 4, size - 1, size - 4, *ends, *(end + more for end in ends for more in (-1, 1))}
    for length in sorted({*near, *(draw.randrange(size) for _ in range(CUTS))}):
        if 0 <= length < size:
            yield "cut", length


class Damage:
    """Damages the files below a directory and asks whether `read` sees it.

    read: raises Gpt2Error for what is damaged, else returns what it read. Passing is allowed only to what changes
    nothing of that: flips, and the loss of a text's last newline (`harmless` counts them); `missed` holds the others,
    `unnamed` errors without the file.
    """

    def __init__(self, read: Callable[[], Any], names: Callable[[Path, str], bool] | None = None) -> None:
        self._read, self._names = read, names or (lambda path, words: path.name in words)
        self._right = read()
        self.detected = self.harmless = 0
        self.missed: list[str] = []
        self.unnamed: list[str] = []

    def try_on(self, path: Path, how: str, place: int) -> None:
        """Damage `path`, read, and put it right."""
        whole = path.read_bytes()
        if how == "cut":
            path.write_bytes(whole[:place])
        else:
            broken = bytearray(whole)
            broken[place // 8] ^= 1 << place % 8
            path.write_bytes(broken)
        case = f"{path.name}: {how} {place}"
        try:
            found = self._read()
        except Gpt2Error as error:
            self.detected += 1
            if "\n" in str(error) or not self._names(path, str(error)):
                self.unnamed.append(f"{case}: {error}")
        else:
            if found == self._right and (how == "flip" or whole[place:] == b"\n"):
                self.harmless += 1
            else:
                self.missed.append(case)
        finally:
            path.write_bytes(whole)

    def told(self, what: str) -> str:
        """Return the figures as a sentence."""
        count = self.detected + self.harmless + len(self.missed)
        return f"{what}: {count} tries, {self.detected} detected, {self.harmless} that change nothing"
