"""WARC files read as a stream, whoever wrote them (ISO 28500; versions 0.18 to 1.1; gzip, zstd, xz, bzip2 or plain).

Common readers take a cut file for a complete one. Here a record that does not end, and bytes that are no record, are
BadInput with the file and the byte, and no length that a file claims is allocated before its bytes are there.
"""

from __future__ import annotations

import io
import itertools
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from gpt2cli.errors import BadInput
from gpt2cli.records.streams import open_raw_input
from gpt2cli.webtext.dump_container import unpacked

MAX_HEADER = 1 << 16
"""Bytes of the header of a record, and of the HTTP header in it."""
_MAX_LINE = 1 << 15
_CHUNK = 1 << 18
_VERSION = re.compile(rb"WARC/\d{1,2}\.\d{1,2}")


@dataclass(frozen=True)
class WarcRecord:
    """One record: `fields` with lower-case names, `block` its bytes, `offset` where it begins in the unpacked file.

    `block` is None when it is larger than the reader was told to keep; the record was passed over whole.
    """

    fields: Mapping[str, str]
    block: bytes | None
    offset: int

    @property
    def kind(self) -> str:
        """What it is: response, request, warcinfo, metadata, revisit, resource, conversion, continuation."""
        return self.fields.get("warc-type", "").lower()


def read_warc(stream: BinaryIO, name: str, max_block: int, kinds: frozenset[str] | None = None) -> Iterator[WarcRecord]:
    """Yield the records of an unpacked stream (webtext.dump_container), in order; `name` is for messages.

    Blocks larger than `max_block` bytes, and those of other `kinds` than the given ones, are passed over.
    Raises BadInput for a record that is cut short and for bytes that are no record.
    """
    reader = _Reader(stream, name)
    while (fields := reader.header()) is not None:
        start = reader.record
        length = reader.content_length(fields)
        wanted = length <= max_block and (kinds is None or fields.get("warc-type", "").lower() in kinds)
        if not wanted:
            reader.skip(length)
        yield WarcRecord(fields, reader.read(length) if wanted else None, start)


def record_at(path: str | os.PathLike[str], offset: int, length: int, max_block: int) -> WarcRecord:
    """Return the record that the `length` bytes at `offset` of a WARC file hold, packed as the file is.

    Raises BadInput when they are not one record, UsageFault when there is no such file.
    """
    where = f"{path} at byte {offset}"
    with open_raw_input(path) as file:
        size = file.seek(0, io.SEEK_END)
        if not 0 <= offset <= offset + length <= size:
            raise BadInput(f"{where}: the file ends before the {length} bytes of this record")
        file.seek(offset)
        data = file.read(length)
    # a second one is looked for because that reads, and so checks, the first to its end
    records = list(itertools.islice(read_warc(unpacked(io.BytesIO(data), where), where, max_block), 2))
    if len(records) != 1:
        raise BadInput(f"{where}: {length} bytes that are not one WARC record")
    return records[0]


def split_fields(lines: list[bytes]) -> list[tuple[str, str]]:
    """Return (name, value) of header lines, names in lower case; continued lines are joined, other lines left out."""
    fields: list[tuple[str, str]] = []
    for line in lines:
        text = line.decode("utf-8", "replace")
        if text[:1] in (" ", "\t") and fields:
            name, value = fields[-1]
            fields[-1] = name, f"{value} {text.strip()}".strip()
            continue
        name, colon, value = text.partition(":")
        if colon:
            fields.append((name.strip().lower(), value.strip()))
    return fields


class _Reader:
    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream = stream
        self._name = name
        self._offset = 0
        self.record = 0
        """Where the record in hand begins."""

    def header(self) -> dict[str, str] | None:
        """Return the fields of the next record, or None at the end of the file."""
        while True:
            self.record = self._offset
            line = self._line()
            if not line:
                return None
            if line.strip():
                break
        if not _VERSION.fullmatch(line.strip()):
            raise BadInput(f"{self._name}: no WARC record begins at byte {self.record} of its unpacked content")
        lines: list[bytes] = []
        while (line := self._line()).strip():
            lines.append(line.rstrip(b"\r\n"))
            if self._offset - self.record > MAX_HEADER:
                raise BadInput(f"{self._where()} has a header of more than {MAX_HEADER} bytes")
        if not line:
            raise self._cut()
        fields: dict[str, str] = {}
        for key, value in split_fields(lines):
            fields.setdefault(key, value)
        return fields

    def content_length(self, fields: dict[str, str]) -> int:
        """Return the length of the block that a header announces."""
        text = fields.get("content-length", "")
        if not (text.isascii() and text.isdigit() and len(text) < 19):
            raise BadInput(f"{self._where()} has no Content-Length that is a number")
        return int(text)

    def read(self, size: int) -> bytes:
        """Return the block of that many bytes."""
        pieces = list(self._pieces(size))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def skip(self, size: int) -> None:
        """Pass over a block."""
        for _ in self._pieces(size):
            pass

    def _pieces(self, size: int) -> Iterator[bytes]:
        while size:
            piece = self._stream.read(min(size, _CHUNK))
            if not piece:
                raise self._cut()
            size -= len(piece)
            self._offset += len(piece)
            yield piece

    def _line(self) -> bytes:
        line = self._stream.readline(_MAX_LINE)
        self._offset += len(line)
        if len(line) == _MAX_LINE and not line.endswith(b"\n"):
            raise BadInput(f"{self._where()} has a line of more than {_MAX_LINE} bytes")
        return line

    def _where(self) -> str:
        return f"{self._name}: the WARC record at byte {self.record} of its unpacked content"

    def _cut(self) -> BadInput:
        return BadInput(f"{self._where()} ends after {self._offset - self.record} bytes: it was cut short")
