"""The links of a run in their order, put aside while they are fetched in another: a file that no memory pays for."""

from __future__ import annotations

import json
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import zstandard

_HEAD = struct.Struct("<qI")


class LinkSpool:
    """Links with the numbers the state gave them; written, then read once. The file has no name and dies with us."""

    def __init__(self, directory: Path) -> None:
        self._file: BinaryIO = tempfile.TemporaryFile(dir=directory, prefix=".links-")  # noqa: SIM115
        self._writer = zstandard.ZstdCompressor(level=1).stream_writer(self._file, closefd=False)
        self.count = 0

    def add(self, link: int, fields: dict[str, Any]) -> None:
        """Put one link aside: its number in the state and its gpt2.link/1 fields."""
        data = json.dumps(fields).encode()
        self._writer.write(_HEAD.pack(link, len(data)) + data)
        self.count += 1

    def read(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield what was added, in that order."""
        self._writer.close()
        self._file.seek(0)
        with zstandard.ZstdDecompressor().stream_reader(self._file, closefd=False) as stream:
            while head := stream.read(_HEAD.size):
                link, size = _HEAD.unpack(head)
                yield link, json.loads(stream.read(size))

    def close(self) -> None:
        """Free the space."""
        self._file.close()
