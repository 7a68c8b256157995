r"""Streams in blocks of whole lines, split at b"\n" only: the unit of work that is parsed elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from gpt2cli.errors import BadInput
from gpt2cli.records.streams import MAX_LINE

BLOCK = 1 << 19
"""Bytes that are read at once."""


@dataclass(frozen=True)
class LineBlock:
    """Whole lines of an input: how messages name it, the number of its first line (from 1), the lines.

    part: which of several inputs it is, from 1.
    """

    name: str
    number: int
    data: bytes
    part: int = 1

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield the number of each line, and the line without its LF."""
        return enumerate(self.data.removesuffix(b"\n").split(b"\n"), self.number)

    def place(self, number: int) -> str:
        """Return what a message calls the line `number`."""
        return f"{self.name} line {number}"


def line_blocks(stream: BinaryIO, name: str, size: int = BLOCK, max_line: int = MAX_LINE, part: int = 1
                ) -> Iterator[LineBlock]:
    """Yield the lines of a stream, about `size` bytes together; a line above `max_line` bytes is BadInput."""
    parts: list[bytes] = []
    held, number = 0, 1
    while more := stream.read(size):
        cut = more.rfind(b"\n") + 1
        if cut:
            data = b"".join([*parts, more[:cut]])
            yield LineBlock(name, number, data, part)
            number += data.count(b"\n")
            parts, held = [], 0
        parts.append(more[cut:])
        held += len(more) - cut
        if held > max_line:
            raise BadInput(f"{name} line {number} is longer than {max_line} bytes")
    if held:
        yield LineBlock(name, number, b"".join(parts), part)
