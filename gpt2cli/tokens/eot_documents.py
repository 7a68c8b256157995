"""A flat stream of ids cut into documents at end-of-text, which some formats put after a document, some before it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from gpt2cli.errors import counted_reasons

Part = tuple[np.ndarray, bool]
"""Some of a document's ids, without end-of-text, and whether the document ends with them. No document is held whole."""
NOTHING = np.empty(0, dtype="<u2")


@dataclass
class ForeignTally:
    """What of a foreign file could not be taken as it was.

    unended: documents without an end-of-text, which was added; headless: documents that no end-of-text begins, where
    it should; parted: rows or entries that held an end-of-text inside and became several documents; skipped: rows
    left out, by reason; invalid_bytes: byte sequences that were no UTF-8; largest: the largest id met.
    """

    unended: int = 0
    headless: int = 0
    parted: int = 0
    invalid_bytes: int = 0
    largest: int = -1
    skipped: dict[str, int] = field(default_factory=dict)

    def skip(self, reason: str) -> None:
        """Count one row that is left out."""
        self.skipped[reason] = self.skipped.get(reason, 0) + 1

    def see(self, ids: np.ndarray) -> None:
        """Take note of ids [n >= 1] that went by."""
        self.largest = max(self.largest, int(ids.max()))

    def sentences(self) -> list[str]:
        """Return what a person should be told; empty when everything was as the format has it."""
        lines = []
        if self.unended:
            lines.append(f"{documents(self.unended)} had no end-of-text at the end; it was added")
        if self.headless:
            lines.append(f"the tokens before the first end-of-text became a document ({documents(self.headless)}); "
                         "its beginning may be in another file")
        if self.parted:
            lines.append(f"{documents(self.parted)} held end-of-text inside and became several")
        if self.skipped:
            lines.append(f"skipped: {counted_reasons(self.skipped)}")
        if self.invalid_bytes:
            lines.append(f"replaced {self.invalid_bytes:,} byte sequences that are not UTF-8 by U+FFFD")
        return lines


def documents(count: int) -> str:
    """Return "1 document", "2 documents"."""
    return f"{count:,} document{'' if count == 1 else 's'}"


def pieces(chunks: Iterable[np.ndarray], eot: int) -> Iterator[Part]:
    """Yield (ids, whether end-of-text follows them) for every stretch without one; none of them spans two chunks."""
    for chunk in chunks:
        start = 0
        for end in np.flatnonzero(chunk == eot).tolist():
            yield chunk[start:end], True
            start = end + 1
        if start < len(chunk):
            yield chunk[start:], False


def documents_before_eot(chunks: Iterable[np.ndarray], eot: int, tally: ForeignTally) -> Iterator[Part]:
    """Yield the documents of a stream that has end-of-text after each.

    Tokens after the last end-of-text are a document too, counted as unended.
    """
    closed = True
    for ids, closed in pieces(chunks, eot):
        yield ids, closed
    if not closed:
        tally.unended += 1
        yield NOTHING, True


def documents_after_eot(chunks: Iterable[np.ndarray], eot: int, tally: ForeignTally) -> Iterator[Part]:
    """Yield the documents of a stream that has end-of-text before each.

    Every end-of-text begins a document, an empty one where another or the end follows at once. Tokens before the first
    end-of-text are a document too, counted as headless.
    """
    begun = False
    for ids, closed in pieces(chunks, eot):
        if len(ids) and not begun:
            tally.headless += 1
            begun = True
        if begun:
            yield ids, closed
        begun = begun or closed
    if begun:
        yield NOTHING, True


def documents_of_entry(chunks: Iterable[np.ndarray], eot: int, tally: ForeignTally) -> Iterator[Part]:
    """Yield the documents in one entry (a row, an indexed document) of a format that has boundaries of its own.

    One end-of-text at its end is the usual case. None: counted as unended. Others inside part it, which is counted.
    """
    count, closed = 0, False
    for ids, closed in pieces(chunks, eot):
        yield ids, closed
        count += closed
    if not closed:
        tally.unended += 1
        count += 1
        yield NOTHING, True
    tally.parted += count > 1
