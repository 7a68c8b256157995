"""TensorFlow's checkpoints, its "tensor bundles": PREFIX.index, a table of entries, and PREFIX.data-00000-of-00001.

A key is a tensor's name, a value a BundleEntryProto (tensor_bundle.proto): type, shape, which data file, where in it,
and a masked CRC-32C of its bytes. The empty key holds a BundleHeaderProto: data files, byte order, version.
Written as TensorFlow 2's Saver writes them, byte for byte; read with every length and checksum looked at.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpt2cli.errors import BadInput
from gpt2cli.interchange.crc32c import masked_crc32c
from gpt2cli.interchange.leveldb_table import MAX_TABLE_BYTES, read_table, read_varint, varint, write_table
from gpt2cli.records.atomic import write_atomic
from gpt2cli.records.named_file import open_named

_DTYPES: dict[int, np.dtype[Any]] = {1: np.dtype("<f4"), 2: np.dtype("<f8"), 19: np.dtype("<f2"), 14: np.dtype("<u2")}
"""TensorFlow's numbers of DT_FLOAT, DT_DOUBLE, DT_HALF and DT_BFLOAT16 (whose bits are read as uint16)."""
DT_BFLOAT16 = 14
_HEADER = b"\x08\x01\x1a\x02\x08\x01"
"""num_shards 1, version { producer 1 }; little-endian is the default."""
_MOST_SHARDS = 10_000
_MOST_DIMENSIONS = 8


@dataclass(frozen=True)
class BundleEntry:
    """Where one tensor lies. `dtype` is TensorFlow's number of its type; `crc32c` is masked."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc32c: int
    sliced: bool


def data_path(prefix: Path, shard: int = 0, shards: int = 1) -> Path:
    """Return the path of a data file."""
    return prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{shards:05d}")


def index_path(prefix: Path) -> Path:
    """Return the path of the table."""
    return prefix.with_name(f"{prefix.name}.index")


def write_bundle(prefix: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write fp32 tensors by name, one data file and its index. Raises OSError."""
    entries, offset = [(b"", _HEADER)], 0
    with open(data_path(prefix), "wb") as file:
        for name in sorted(tensors, key=str.encode):
            data = np.ascontiguousarray(tensors[name], "<f4")
            file.write(data.data)
            entry = BundleEntry(1, data.shape, 0, offset, data.nbytes, masked_crc32c(data.reshape(-1)), False)
            entries.append((name.encode(), _encode_entry(entry)))
            offset += data.nbytes
    write_atomic(index_path(prefix), write_table(entries))


class BundleReader:
    """The tensors of a bundle by name: entries at once, numbers on demand.

    Raises BadInput, also later, for damage, hostile lengths, byte orders or types that are not read.
    """

    def __init__(self, prefix: Path) -> None:
        self.prefix = prefix
        self._name = str(index_path(prefix))
        with open_named(self._name) as file:
            table = file.read(MAX_TABLE_BYTES + 1)
        if len(table) > MAX_TABLE_BYTES:
            raise BadInput(f"{self._name} is larger than {MAX_TABLE_BYTES:,} bytes, too large for a GPT-2's")
        self.entries: dict[str, BundleEntry] = {}
        self._shards = 0
        for key, value in read_table(table, self._name):
            if not key:
                self._shards = self._read_header(value)
                continue
            try:
                name = key.decode()
            except UnicodeDecodeError:
                raise BadInput(f"{self._name} is damaged: a tensor's name is not UTF-8") from None
            self.entries[name] = self._entry(name, value)
        if not self._shards:
            raise BadInput(f"{self._name} is no TensorFlow checkpoint: it has no header entry")

    def paths(self) -> list[Path]:
        """Return the index and all data files, in order."""
        return [Path(self._name), *(data_path(self.prefix, shard, self._shards) for shard in range(self._shards))]

    def read(self, name: str) -> np.ndarray:
        """Return one tensor in its own type (bfloat16: its bits as uint16), its checksum checked."""
        entry = self.entries[name]
        path = data_path(self.prefix, entry.shard, self._shards)
        kind = _DTYPES.get(entry.dtype)
        if kind is None:
            raise BadInput(f"{self._name}: {name[:80]!a} is of TensorFlow's type {entry.dtype}, no floating-point "
                           "one")
        if entry.sliced:
            raise BadInput(f"{self._name}: {name[:80]!a} is saved in slices, which are not read; save it whole")
        if math.prod(entry.shape) * kind.itemsize != entry.size:
            raise BadInput(f"{self._name}: {name[:80]!a} has {entry.size:,} bytes, not what its shape "
                           f"{list(entry.shape)} asks for")
        if entry.offset + entry.size > path.stat().st_size:
            raise BadInput(f"{path} was cut short: {name[:80]!a} ends at byte {entry.offset + entry.size:,}")
        with open_named(path) as file:
            file.seek(entry.offset)
            data = np.empty(entry.size, np.uint8)
            length = file.readinto(data.data)
        if length != entry.size or masked_crc32c(data) != entry.crc32c:
            raise BadInput(f"{path} is damaged: the checksum of {name[:80]!a} at byte {entry.offset:,} does not "
                           "hold")
        return data.view(kind).reshape(entry.shape)

    def _read_header(self, value: bytes) -> int:
        fields = dict(_fields(value, self._name))
        shards, order = fields.get(1, 1), fields.get(2, 0)
        if order != 0:
            raise BadInput(f"{self._name} is of a big-endian machine, which is not read")
        if not isinstance(shards, int) or not 1 <= shards <= _MOST_SHARDS:
            raise BadInput(f"{self._name} is damaged: its header counts {shards!r} data files")
        return shards

    def _entry(self, name: str, value: bytes) -> BundleEntry:
        numbers = {1: 0, 3: 0, 4: 0, 5: 0, 6: 0}
        shape: tuple[int, ...] = ()
        sliced = False
        for field, content in _fields(value, self._name):
            if field == 2 and isinstance(content, bytes):
                shape = self._shape(content, name)
            elif field in numbers and isinstance(content, int):
                numbers[field] = content
            elif field == 7:
                sliced = True
        if numbers[3] >= max(self._shards, 1) or numbers[4] >= 1 << 62 or numbers[5] >= 1 << 62:
            raise BadInput(f"{self._name} is damaged: {name[:80]!a} lies nowhere in its data files")
        return BundleEntry(numbers[1], shape, numbers[3], numbers[4], numbers[5], numbers[6], sliced)

    def _shape(self, value: bytes, name: str) -> tuple[int, ...]:
        sizes: list[int] = []
        for field, content in _fields(value, self._name):
            if field == 2 and isinstance(content, bytes):
                size = dict(_fields(content, self._name)).get(1, 0)
                if not isinstance(size, int) or size >= 1 << 40 or len(sizes) == _MOST_DIMENSIONS:
                    raise BadInput(f"{self._name} is damaged: {name[:80]!a} has no possible shape")
                sizes.append(size)
            elif field == 3:
                raise BadInput(f"{self._name}: {name[:80]!a} has no known shape")
        return tuple(sizes)


def _encode_entry(entry: BundleEntry) -> bytes:
    shape = b"".join(_bytes_field(2, _number_field(1, size)) for size in entry.shape)
    numbers = _number_field(1, entry.dtype) + _bytes_field(2, shape)
    return (numbers + _number_field(3, entry.shard) + _number_field(4, entry.offset) + _number_field(5, entry.size)
            + b"\x35" + struct.pack("<I", entry.crc32c))


def _number_field(field: int, number: int) -> bytes:
    return varint(field << 3) + varint(number) if number else b""


def _bytes_field(field: int, content: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(content)) + content


def _fields(data: bytes, name: str) -> Iterator[tuple[int, int | bytes]]:
    """Yield (field, content) of a protocol buffer's message, one level of it."""
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at, name)
        kind = tag & 7
        if kind == 0:
            number, at = read_varint(data, at, name)
            yield tag >> 3, number
            continue
        if kind == 2:
            length, at = read_varint(data, at, name)
        else:
            length = {1: 8, 5: 4}.get(kind, -1)
        if length < 0 or at + length > len(data):
            raise BadInput(f"{name} is damaged: an entry is no protocol buffer")
        content = data[at : at + length]
        at += length
        yield tag >> 3, content if kind == 2 else int.from_bytes(content, "little")
