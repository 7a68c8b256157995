"""What Reddit's dumps come packed in: zstd (a window up to 2 GiB), xz, bzip2, gzip, or nothing; told by their magic.

The standard library's readers for files differ in what they make of a cut file, of padding and of a bomb. Here a
member that does not end, damaged data and bytes that are no member are BadInput, and a read holds a bounded block.
"""

from __future__ import annotations

import bz2
import contextlib
import io
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from gpt2cli.errors import BadInput
from gpt2cli.records.streams import decompressed, display_name, open_raw_input

WINDOW_LOG = 31
"""Reddit's dumps are compressed with a zstd window of 2 GiB."""
XZ_MEMORY = 2 << 30
"""Bytes that an xz decoder may take; dictionaries of 1.5 GiB are the format's largest."""
_CHUNK = 1 << 18
_PACKED_CHUNK = 1 << 15  # what is behind the end of a member is copied: WARC files have a member for each record


class _Gunzip:
    """zlib's decoder with the interface of bz2's and lzma's."""

    def __init__(self) -> None:
        self._decoder = zlib.decompressobj(31)
        self._tail = b""

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def needs_input(self) -> bool:
        return not self._tail

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        output = self._decoder.decompress(self._tail + data, max_length)
        self._tail = self._decoder.unconsumed_tail
        return output


@dataclass(frozen=True)
class _Format:
    name: str
    magic: bytes
    decoder: Callable[[], Any]


_FORMATS = (
    _Format("xz", b"\xfd7zXZ\x00", lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY)),
    _Format("bzip2", b"BZh", bz2.BZ2Decompressor),
    _Format("gzip", b"\x1f\x8b", _Gunzip),
)


@contextlib.contextmanager
def open_dump(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Yield the unpacked bytes of `path` (`-`: stdin), whatever it is packed in.

    Its reads raise BadInput for a file that is damaged, cut short, or has something else behind its last member.
    """
    with open_raw_input(path) as raw:
        yield unpacked(raw, display_name(path))


def unpacked(raw: BinaryIO, name: str) -> BinaryIO:
    """Return the unpacked bytes of an open stream that nothing was read from; see open_dump."""
    buffered = raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(cast(io.RawIOBase, raw))
    start = buffered.peek(6)[:6]
    for form in _FORMATS:
        if start.startswith(form.magic):
            return cast(BinaryIO, io.BufferedReader(_Members(buffered, name, form), _CHUNK))
    return decompressed(cast(BinaryIO, buffered), name, WINDOW_LOG)


class _Members(io.RawIOBase):
    """Concatenated xz, bzip2 or gzip members, with zero bytes between or behind them at most."""

    def __init__(self, source: io.BufferedReader, name: str, form: _Format) -> None:
        self._source = source
        self._name = name
        self._form = form
        self._decoder: Any = None
        self._held = b""
        self._offset = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        """Fill `buffer` with unpacked bytes; return how many, 0 at the end."""
        while True:
            if self._decoder is None and not self._start():
                return 0
            if not self._held and self._decoder.needs_input:
                self._read()
            output = self._decode(len(buffer))
            if self._decoder.eof:
                self._held, self._decoder = self._decoder.unused_data, None
            elif not output and not self._held and self._decoder.needs_input and not self._read():
                raise BadInput(f"{self._name} ends inside a {self._form.name} member at byte {self._offset}: "
                               "it was cut short")
            if output:
                buffer[: len(output)] = output
                return len(output)

    def _start(self) -> bool:
        while True:
            self._held = self._held.lstrip(b"\0")
            if len(self._held) >= len(self._form.magic) or not self._read():
                break
        if self._held and not self._held.startswith(self._form.magic):
            raise BadInput(f"{self._name} holds bytes before {self._offset} that are no {self._form.name} member")
        self._decoder = self._form.decoder() if self._held else None
        return bool(self._held)

    def _decode(self, room: int) -> bytes:
        data, self._held = self._held, b""
        try:
            return bytes(self._decoder.decompress(data, room))
        except (OSError, ValueError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise BadInput(f"{self._name} is damaged before byte {self._offset}: {error}") from None

    def _read(self) -> bool:
        more = self._source.read(_PACKED_CHUNK)
        self._held += more
        self._offset += len(more)
        return bool(more)
