"""Sorted string tables as leveldb writes them (table_format.md), whole in memory: TensorFlow's .index files are such.

A file is data blocks, an index block of (key at or past the block's last, its place) and a footer. A block is entries
(shared bytes, further bytes, value's length as varints; key's rest; value), restart offsets, a compression byte and a
masked CRC-32C. TensorFlow has written without compression since 1.2; a compressed block is refused.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from gpt2cli.errors import BadInput
from gpt2cli.interchange.crc32c import masked_crc32c

_MAGIC = 0xDB4775248B80FB57
_FOOTER_BYTES = 48
_TRAILER_BYTES = 5
_RESTART_INTERVAL = 16
_BLOCK_BYTES = 256 << 10
MAX_TABLE_BYTES = 16 << 20
"""Largest table read, a hundred times a GPT-2's."""


def write_table(entries: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the table of (key, value) pairs in ascending order of keys, as TensorFlow 2 writes it, byte for byte."""
    data, index = bytearray(), _Block(restart_interval=1)
    block, last = _Block(), b""
    for key, value in entries:
        if block.size >= _BLOCK_BYTES:
            index.add(last, _append(data, block.finish()))
            block = _Block()
        block.add(key, value)
        last = key
    index.add(_past(last), _append(data, block.finish()))
    meta = _append(data, _Block().finish())
    footer = meta + _append(data, index.finish())
    return bytes(data) + footer.ljust(_FOOTER_BYTES - 8, b"\0") + struct.pack("<Q", _MAGIC)


def read_table(data: bytes, name: str) -> Iterator[tuple[bytes, bytes]]:
    """Yield the (key, value) pairs of a table; `name` is the file for messages. Raises BadInput for damage."""
    if len(data) < _FOOTER_BYTES or struct.unpack("<Q", data[-8:])[0] != _MAGIC:
        raise BadInput(f"{name} is no leveldb table: it does not end in its magic number; was it cut short?")
    footer, at = data[-_FOOTER_BYTES:-8], 0
    for _ in range(2):
        _, at = read_varint(footer, at, name)
    offset, at = read_varint(footer, at, name)
    size, at = read_varint(footer, at, name)
    last: bytes | None = None
    for _, handle in _entries(_block(data, offset, size, name), name):
        start, at = read_varint(handle, 0, name)
        size, at = read_varint(handle, at, name)
        for key, value in _entries(_block(data, start, size, name), name):
            if last is not None and key <= last:
                raise BadInput(f"{name} is damaged: the key {_shown(key)} does not come after {_shown(last)}")
            last = key
            yield key, value


def varint(number: int) -> bytes:
    """Return a number as seven bits a byte, the lowest first, as leveldb and protocol buffers do."""
    data = bytearray()
    while number >= 0x80:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    data.append(number)
    return bytes(data)


def read_varint(data: bytes, at: int, name: str) -> tuple[int, int]:
    """Return (number, where it ends); raise BadInput past the end or past 64 bits."""
    number = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        number |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            if number >> 64:
                break
            return number, at
    raise BadInput(f"{name} is damaged: a number in it has no end")


class _Block:
    """A block in the making: keys share what they begin with, but for each sixteenth."""

    def __init__(self, restart_interval: int = _RESTART_INTERVAL) -> None:
        self._interval = restart_interval
        self._data, self._restarts, self._count, self._last = bytearray(), [0], 0, b""

    @property
    def size(self) -> int:
        """Bytes so far."""
        return len(self._data) + 4 * len(self._restarts) + 4

    def add(self, key: bytes, value: bytes) -> None:
        """Append an entry; keys ascend."""
        shared = 0
        if self._count == self._interval:
            self._restarts.append(len(self._data))
            self._count = 0
        elif self._count:
            while shared < min(len(key), len(self._last)) and key[shared] == self._last[shared]:
                shared += 1
        self._data += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        self._count, self._last = self._count + 1, key

    def finish(self) -> bytes:
        """Return the block's bytes, without its trailer."""
        return bytes(self._data) + struct.pack(f"<{len(self._restarts) + 1}I", *self._restarts, len(self._restarts))


def _append(data: bytearray, block: bytes) -> bytes:
    """Append a block with its trailer; return its handle."""
    handle = varint(len(data)) + varint(len(block))
    data += block + b"\0" + struct.pack("<I", masked_crc32c(block + b"\0"))
    return handle


def _past(key: bytes) -> bytes:
    """Return a short key at or past `key`, as leveldb's FindShortSuccessor does."""
    for place, byte in enumerate(key):
        if byte != 0xFF:
            return key[:place] + bytes([byte + 1])
    return key


def _block(data: bytes, offset: int, size: int, name: str) -> bytes:
    if offset + size + _TRAILER_BYTES > len(data):
        raise BadInput(f"{name} is damaged: a block of {size:,} bytes at byte {offset:,} passes its end")
    block, kind = data[offset : offset + size], data[offset + size]
    (crc,) = struct.unpack_from("<I", data, offset + size + 1)
    if masked_crc32c(data[offset : offset + size + 1]) != crc:
        raise BadInput(f"{name} is damaged: the checksum of its block at byte {offset:,} does not hold")
    if kind:
        raise BadInput(f"{name} holds a compressed block, which TensorFlow writes no more; save it again with 1.2 or "
                       "later")
    return block


def _entries(block: bytes, name: str) -> Iterator[tuple[bytes, bytes]]:
    restarts = struct.unpack("<I", block[-4:])[0] if len(block) >= 4 else -1
    end = len(block) - 4 * (restarts + 1)
    if restarts < 0 or end < 0:
        raise BadInput(f"{name} is damaged: a block is too small for its {max(restarts, 0):,} restart points")
    at, key = 0, b""
    while at < end:
        shared, at = read_varint(block, at, name)
        further, at = read_varint(block, at, name)
        length, at = read_varint(block, at, name)
        if shared > len(key) or at + further + length > end:
            raise BadInput(f"{name} is damaged: an entry of a block passes its end")
        key = key[:shared] + block[at : at + further]
        yield key, block[at + further : at + further + length]
        at += further + length


def _shown(key: bytes) -> str:
    return ascii(key[:60].decode("latin-1"))
