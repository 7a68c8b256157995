"""Byte streams in and out: `-` is stdin or stdout, zstd by magic on input and by suffix on output.

Input is hostile until checked: the zstd window, the length of a line and a truncated frame are all bounded or found.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import zstandard

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.records.atomic import atomic_file
from gpt2cli.records.named_file import NamedFile

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
SKIPPABLE_MAGICS = tuple(bytes([low, 0x2A, 0x4D, 0x18]) for low in range(0x50, 0x60))
WINDOW_LOG = 27
"""Largest window accepted by default, 128 MiB; Reddit's dumps need 31 and ask for it."""
MAX_LINE = 64 << 20
"""Longest accepted line in bytes."""
MAX_BLOCK = 128 << 10
"""Most bytes of content in one zstd block (RFC 8878)."""
_CHUNK = 1 << 18


def display_name(path: str | os.PathLike[str]) -> str:
    """Return how a message names an input: its path, or `standard input` for `-`."""
    return "standard input" if str(path) == "-" else str(path)


@contextlib.contextmanager
def open_raw_input(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Yield the bytes of `path` (`-`: stdin) as they are.

    A terminal as stdin is a UsageFault, never a wait; so is a path that names nothing, or a directory.
    """
    if str(path) == "-":
        if not sys.stdin.readable():
            raise OSError(errno.EBADF, os.strerror(errno.EBADF), "standard input")
        stdin = sys.stdin.buffer
        if os.isatty(stdin.fileno()):
            raise UsageFault("no input: standard input is a terminal; name a FILE or pipe something in")
        yield stdin
    else:
        with io.BufferedReader(_existing(path), _CHUNK) as file:
            yield file


def _existing(path: str | os.PathLike[str]) -> io.FileIO:
    try:
        return NamedFile(path)
    except (FileNotFoundError, NotADirectoryError):
        raise UsageFault(f"there is no {path}") from None
    except IsADirectoryError:
        raise UsageFault(f"{path} is a directory; name the files in it") from None
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise UsageFault(f"there is no {os.fspath(path)[:100]}...: the name is longer than any file's") from None


@contextlib.contextmanager
def open_input(path: str | os.PathLike[str], *, window_log: int = WINDOW_LOG) -> Iterator[BinaryIO]:
    """Yield the decompressed bytes of `path` (`-`: stdin), zstd recognised by its magic.

    The stream raises BadInput when a zstd frame is damaged, cut short, or wants a window above 2^window_log bytes.
    """
    with open_raw_input(path) as raw:
        yield decompressed(raw, display_name(path), window_log)


def decompressed(raw: BinaryIO, name: str, window_log: int = WINDOW_LOG) -> BinaryIO:
    """Return the decompressed bytes of an open stream that nothing was read from; `name` is for messages.

    See open_input for what its reads raise.
    """
    buffered = raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(cast(io.RawIOBase, raw))
    magic = buffered.peek(4)[:4]
    if magic == ZSTD_MAGIC or magic in SKIPPABLE_MAGICS:
        return cast(BinaryIO, io.BufferedReader(ZstdInput(buffered, name, window_log), _CHUNK))
    return buffered


def proves_its_end(stream: BinaryIO) -> bool:
    """Whether a stream of `decompressed` would notice by itself that it was cut: a zstd frame has an end."""
    return isinstance(getattr(stream, "raw", None), ZstdInput)


class ZstdInput(io.RawIOBase):
    """Decompresses concatenated zstd frames, passes over skippable ones, and insists that the last one ends.

    python-zstandard's own reader treats a truncated file as a clean end; this one raises BadInput. It goes block by
    block (RFC 8878), at most 128 KiB of content each, so no frame can make it hold more than that and its window.
    """

    def __init__(self, source: BinaryIO, name: str, window_log: int = WINDOW_LOG) -> None:
        self._source = source
        self._name = name
        self._context = zstandard.ZstdDecompressor(max_window_size=1 << window_log)
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._has_checksum = False
        self._output = memoryview(b"")
        self._offset = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        """Fill `buffer` with decompressed bytes; return how many, 0 at the end."""
        while not self._output:
            if self._frame is not None:
                self._next_block()
            elif not self._start_frame():
                return 0
        taken = min(len(buffer), len(self._output))
        buffer[:taken] = self._output[:taken]
        self._output = self._output[taken:]
        return taken

    def _start_frame(self) -> bool:
        magic = self._read(4, "a zstd frame header", may_end=True)
        if not magic:
            return False
        if magic in SKIPPABLE_MAGICS:
            self._skip(int.from_bytes(self._read(4, "a zstd frame header"), "little"))
            return True
        if magic != ZSTD_MAGIC:
            raise BadInput(f"{self._name} holds bytes at {self._offset - 4} that are no zstd frame")
        descriptor = self._read(1, "a zstd frame header")
        flags = descriptor[0]
        single = flags >> 5 & 1
        size = (0, 1, 2, 4)[flags & 3] + (1 - single) + (single, 2, 4, 8)[flags >> 6]
        self._frame = self._context.decompressobj()
        self._has_checksum = bool(flags & 4)
        self._decompress(magic + descriptor + self._read(size, "a zstd frame header"))
        return True

    def _next_block(self) -> None:
        head = self._read(3, "a zstd frame")
        word = int.from_bytes(head, "little")
        last, kind, size = word & 1, word >> 1 & 3, word >> 3
        if kind == 3 or size > MAX_BLOCK:
            raise BadInput(f"{self._name} is damaged near byte {self._offset}: no zstd block begins there")
        body = self._read(1 if kind == 1 else size, "a zstd frame")
        self._decompress(head + body + (self._read(4, "a zstd frame") if last and self._has_checksum else b""))
        if last:
            self._frame = None

    def _decompress(self, data: bytes) -> None:
        assert self._frame is not None
        try:
            self._output = memoryview(self._frame.decompress(data))
        except zstandard.ZstdError as error:
            raise BadInput(f"{self._name} is damaged near byte {self._offset}: {error}") from None

    def _read(self, size: int, inside: str, may_end: bool = False) -> bytes:
        data = b""
        while len(data) < size:
            more = self._source.read(size - len(data))
            if not more:
                if may_end and not data:
                    break
                raise BadInput(f"{self._name} ends inside {inside} at byte {self._offset}: it was cut short")
            self._offset += len(more)
            data += more
        return data

    def _skip(self, size: int) -> None:
        while size:
            size -= len(self._read(min(size, _CHUNK), "a skippable frame"))


@contextlib.contextmanager
def open_output(path: str | os.PathLike[str], *, force: bool = True, binary: bool = False, as_is: bool = False
                ) -> Iterator[BinaryIO]:
    """Yield a binary stream to `path` (`-`: stdout). A named file appears only when the block succeeds.

    A name that ends in `.zst` is compressed (level 3, content checksum). `binary` refuses to write to a terminal.
    `as_is`: what is written is already in its final form, whatever the name.
    Raises UsageFault for an existing file without `force`.
    """
    if str(path) == "-":
        if binary and os.isatty(sys.stdout.fileno()):
            raise UsageFault("binary output is not written to a terminal; redirect it or name a file with -o")
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if not Path(path).parent.is_dir():
        raise UsageFault(f"the directory of {path} does not exist; make it first")
    with atomic_file(path, force=force) as file:
        if str(path).endswith(".zst") and not as_is:
            compressor = zstandard.ZstdCompressor(level=3, write_checksum=True)
            with compressor.stream_writer(file, closefd=False) as stream:
                yield cast(BinaryIO, stream)
        else:
            yield file


def read_lines(stream: BinaryIO, name: str, max_line: int = MAX_LINE) -> Iterator[bytes]:
    r"""Yield lines without their final b"\n", split at b"\n" only; a line above `max_line` bytes is BadInput."""
    number = 0
    while line := stream.readline(max_line + 1):
        number += 1
        if len(line) > max_line:
            raise BadInput(f"{name} line {number} is longer than {max_line} bytes")
        yield line.removesuffix(b"\n")
