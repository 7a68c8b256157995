"""The bytes of a token shard (`*.tok.zst`): frames, header, footer, seek table. gpt2-shard(5) describes them.

A shard is an ordinary zstd file whose decompression is exactly its little-endian tokens. What else there is to say
rides in skippable frames, which zstd passes over:

    header (0x184D2A50)  data frame ...  footer (0x184D2A51)  seek table (0x184D2A5E)

A concatenation of shards is a shard. Nothing here seeks, and nothing allocates more than a bounded frame asks for.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import zstandard

from gpt2cli.errors import BadInput
from gpt2cli.records.schemas import refuse_newer
from gpt2cli.records.streams import ZSTD_MAGIC

FRAME_TOKENS = 131_072
"""Tokens in every data frame but the last of a shard: 256 KiB of uint16, one seek's worth of work."""
LEVEL = 3
HEADER_MAGIC = 0x184D2A50
FOOTER_MAGIC = 0x184D2A51
SEEK_MAGIC = 0x184D2A5E
SEEKABLE = 0x8F92EAB1
WITH_CHECKSUMS = 0x80
SEEK_ENTRY = 12
"""Bytes of one entry of the seek table: compressed size, decompressed size, checksum."""
NO_CONTENT = 0x51D8E999
"""What the seek table says of a skippable frame: the low half of the XXH64 of nothing."""
HEADER_SCHEMA = "gpt2.shard/1"
FOOTER_SCHEMA = "gpt2.shard-footer/1"
MAX_HEADER = 32 << 20
"""Largest header, which may carry a vocabulary, in bytes."""
MAX_DOCUMENTS = 1 << 27
"""Most documents in one shard stream: its index is 4 bytes for each."""
MAX_FOOTER = (4 * MAX_DOCUMENTS) + (4 << 20)
MAX_TABLE = 1 << 30
SMALL_VOCABULARY = 65_536
"""Ids fit uint16 up to this n_vocab."""
_CHUNK = 1 << 20
_WINDOW = 1 << 23


@dataclass(frozen=True)
class ShardHeader:
    """What a shard says of its tokens. `vocabulary`: canonical text, None for GPT-2's own; `source`: a free name."""

    n_vocab: int
    eot: int
    tokenizer_sha256: str
    vocabulary: str | None = None
    source: str | None = None

    @property
    def dtype(self) -> str:
        """"uint16", or "uint32" when n_vocab is above 65,536; little-endian in the file."""
        return "uint16" if self.n_vocab <= SMALL_VOCABULARY else "uint32"

    @property
    def width(self) -> int:
        """Bytes of one token."""
        return 2 if self.dtype == "uint16" else 4

    def same_tokens(self, other: ShardHeader) -> bool:
        """Whether ids mean the same in both."""
        return (self.n_vocab, self.eot, self.tokenizer_sha256) == (other.n_vocab, other.eot, other.tokenizer_sha256)


@dataclass(frozen=True)
class ShardFooter:
    """The account at a shard's end. `sha256` is over the uncompressed token bytes; `text_bytes` None when unknown.

    `frames_sha256` is over the data frames' entries in the seek table: their sizes, their checksums and their order.
    """

    tokens: int
    documents: int
    sha256: str
    input_sha256: str | None
    text_bytes: int | None
    header_sha256: str
    frames_sha256: str
    packed_index: bytes

    def lengths(self) -> np.ndarray:
        """Return the document index: tokens of each document in order, its eot included, as uint32 [documents]."""
        data = b"".join(_pieces(self.packed_index, 4 * self.documents)) if self.documents else b""
        return np.frombuffer(data, dtype="<u4")


@dataclass(frozen=True)
class Frame:
    """Where one data frame lies in the file and which tokens it holds (`start` counts within the whole file).

    `checksum`: the low half of the XXH64 of its decompressed bytes, as it stands at the frame's end.
    """

    number: int
    offset: int
    size: int
    start: int
    tokens: int
    checksum: int


def skippable(magic: int, payload: bytes) -> bytes:
    """Return a skippable frame."""
    return struct.pack("<II", magic, len(payload)) + payload


def pack_header(header: ShardHeader) -> bytes:
    """Return the header's skippable frame."""
    fields: dict[str, Any] = {
        "schema": HEADER_SCHEMA, "dtype": header.dtype, "n_vocab": header.n_vocab, "eot": header.eot,
        "tokenizer_sha256": header.tokenizer_sha256, "source": header.source, "vocabulary": header.vocabulary,
    }
    return skippable(HEADER_MAGIC, _json(fields))


def parse_header(payload: bytes, name: str) -> ShardHeader:
    """Return the header in a skippable frame's payload; raise BadInput for anything inconsistent."""
    fields = _parse_json(payload, f"{name}: the shard header")
    _check_schema(fields, HEADER_SCHEMA, name)
    try:
        header = ShardHeader(_whole(fields["n_vocab"]), _whole(fields["eot"]), _digest(fields["tokenizer_sha256"]),
                             _text_or_none(fields["vocabulary"]), _text_or_none(fields["source"]))
        dtype = fields["dtype"]
    except (KeyError, ValueError):
        raise BadInput(f"{name}: the shard header is damaged: a field is missing or has the wrong form") from None
    if not (1 <= header.n_vocab < 1 << 31 and header.eot < header.n_vocab and dtype == header.dtype):
        raise BadInput(f"{name}: the shard header is damaged: n_vocab, eot and dtype do not fit together")
    text = header.vocabulary
    if text is not None and hashlib.sha256(text.encode()).hexdigest() != header.tokenizer_sha256:
        raise BadInput(f"{name}: the shard header is damaged: its vocabulary is not the one its tokenizer_sha256 names")
    return header


def pack_footer(footer: ShardFooter) -> bytes:
    """Return the footer's skippable frame: sha256 of the rest, length of the JSON, the JSON, the document index."""
    fields = {
        "schema": FOOTER_SCHEMA, "tokens": footer.tokens, "documents": footer.documents, "sha256": footer.sha256,
        "input_sha256": footer.input_sha256, "text_bytes": footer.text_bytes, "header_sha256": footer.header_sha256,
        "frames_sha256": footer.frames_sha256,
    }
    text = _json(fields)
    body = struct.pack("<I", len(text)) + text + footer.packed_index
    return skippable(FOOTER_MAGIC, hashlib.sha256(body).digest() + body)


def parse_footer(payload: bytes, name: str) -> ShardFooter:
    """Return the footer in a skippable frame's payload; raise BadInput when its own digest or form is wrong."""
    body = payload[32:]
    if len(body) < 4 or hashlib.sha256(body).digest() != payload[:32]:
        raise BadInput(f"{name}: the shard footer is damaged; make the shard again")
    (size,) = struct.unpack_from("<I", body)
    fields = _parse_json(body[4 : 4 + size], f"{name}: the shard footer")
    _check_schema(fields, FOOTER_SCHEMA, name)
    try:
        origin = None if fields["input_sha256"] is None else _digest(fields["input_sha256"])
        text_bytes = None if fields["text_bytes"] is None else _whole(fields["text_bytes"])
        footer = ShardFooter(_whole(fields["tokens"]), _whole(fields["documents"]), _digest(fields["sha256"]),
                             origin, text_bytes, _digest(fields["header_sha256"]), _digest(fields["frames_sha256"]),
                             body[4 + size :])
    except (KeyError, ValueError):
        raise BadInput(f"{name}: the shard footer is damaged: a field is missing or has the wrong form") from None
    _check_index(footer, name)
    return footer


def _check_index(footer: ShardFooter, name: str) -> None:
    if footer.documents > min(footer.tokens, MAX_DOCUMENTS):
        raise BadInput(f"{name}: the shard footer is damaged: {footer.documents} documents in {footer.tokens} tokens")
    if not footer.documents:
        if footer.packed_index or footer.tokens:
            raise BadInput(f"{name}: the shard footer is damaged: tokens without documents")
        return
    total, documents = 0, 0
    try:
        for piece in _pieces(footer.packed_index, 4 * footer.documents):
            lengths = np.frombuffer(piece, dtype="<u4")
            documents += int(np.count_nonzero(lengths))
            total += int(lengths.sum(dtype=np.uint64))
    except (ValueError, zstandard.ZstdError):
        documents = -1
    if (total, documents) != (footer.tokens, footer.documents):
        raise BadInput(f"{name}: the shard footer is damaged: its document index does not add up to its tokens")


def _pieces(frame: bytes, size: int) -> Iterator[bytes]:
    """Yield the content of one whole zstd frame of `size` bytes in pieces of whole entries; ValueError if it isn't.

    A KiB goes in at a time, so that at most 32 MiB come out: 256 blocks of 128 KiB, were each one repeated byte.
    """
    if zstandard.get_frame_parameters(frame).content_size != size:
        raise ValueError("not the size that it should have")
    decoder = zstandard.ZstdDecompressor(max_window_size=_WINDOW).decompressobj()
    rest = b""
    for start in range(0, len(frame), 1 << 10):
        if decoder.eof:
            raise ValueError("bytes after the frame")
        data = rest + decoder.decompress(frame[start : start + (1 << 10)])
        whole = len(data) & ~3
        yield data[:whole]
        rest = data[whole:]
    if not decoder.eof or decoder.unused_data:
        raise ValueError("not one whole frame")


def pack_index(lengths: np.ndarray) -> bytes:
    """Return a document index: the lengths as little-endian uint32 in one zstd frame; b"" for none."""
    data = lengths.astype("<u4").tobytes()
    return _compressor().compress(data) if data else b""


def frame_checksum(frame: bytes) -> int:
    """Return the content checksum that ends a data frame."""
    return int.from_bytes(frame[-4:], "little")


def frames_digest(entries: np.ndarray | list[list[int]]) -> str:
    """Return frames_sha256: the sha256 of the seek table's entries for the data frames, as they stand there."""
    return hashlib.sha256(np.array(entries, dtype="<u4").tobytes()).hexdigest()


def pack_seek_table(entries: list[list[int]]) -> bytes:
    """Return the standard seek table for [compressed size, decompressed size, checksum] of all frames before it."""
    table = np.array(entries, dtype="<u4").tobytes()
    return skippable(SEEK_MAGIC, table + struct.pack("<IBI", len(entries), WITH_CHECKSUMS, SEEKABLE))


def parse_seek_table(payload: bytes, name: str) -> np.ndarray:
    """Return a seek table as int64 [frames, 3]: compressed size, decompressed size, checksum."""
    if len(payload) >= 9:
        count, descriptor, magic = struct.unpack("<IBI", payload[-9:])
        if (magic, descriptor, len(payload)) == (SEEKABLE, WITH_CHECKSUMS, 9 + SEEK_ENTRY * count):
            return np.frombuffer(payload, dtype="<u4", count=3 * count).reshape(-1, 3).astype(np.int64)
    raise BadInput(f"{name}: the seek table is damaged; make the shard again")


def compress_frame(tokens: bytes) -> bytes:
    """Return one independent data frame, content size and checksum on (python-zstandard leaves checksums out)."""
    return _compressor().compress(tokens)


def decompress_frame(data: bytes, width: int, where: str) -> np.ndarray:
    """Return the tokens of one complete data frame; raise BadInput naming `where` when its checksum fails."""
    size = content_size(data, width, where)
    try:
        decoder = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
        tokens = decoder.decompress(data, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise BadInput(f"{where} is damaged ({str(error).removeprefix('decompression error: ')}); "
                       "make the shard again") from None
    return np.frombuffer(tokens, dtype=f"<u{width}")


def content_size(frame: bytes, width: int, where: str) -> int:
    """Return the decompressed bytes that a frame's header declares, after checking them against the format's bounds."""
    try:
        found = zstandard.get_frame_parameters(frame)
    except zstandard.ZstdError:
        raise BadInput(f"{where} is damaged (its frame header); make the shard again") from None
    size = found.content_size
    if found.dict_id or not found.has_checksum or not 0 < size <= FRAME_TOKENS * width or size % width:
        raise BadInput(f"{where} is no frame of a token shard: it declares {size} bytes, "
                       f"{'a' if found.has_checksum else 'no'} checksum")
    return size


class FrameSource:
    """Cuts a byte stream into whole zstd frames, reading no further than each needs. `offset` is where it stands."""

    def __init__(self, stream: BinaryIO, name: str, offset: int = 0) -> None:
        self._stream = stream
        self.name = name
        self.offset = offset

    def next_magic(self) -> int | None:
        """Read the next frame's magic number; None at the end of the stream."""
        data = self._read(4, allow_end=True)
        return int.from_bytes(data, "little") if data else None

    def skippable_payload(self, limit: int) -> bytes:
        """Read the rest of a skippable frame after its magic; BadInput when it is larger than `limit`."""
        size = int.from_bytes(self._read(4), "little")
        if size > limit:
            raise BadInput(f"{self.name} is damaged: the metadata frame at byte {self.offset - 8} claims {size} bytes")
        return self._read(size)

    def data_frame(self, where: str) -> bytes:
        """Read the rest of a data frame after its magic, block by block (RFC 8878), and return it whole."""
        descriptor = self._read(1)
        flags = descriptor[0]
        single = flags >> 5 & 1
        header = self._read((0, 1, 2, 4)[flags & 3] + (1 - single) + (single, 2, 4, 8)[flags >> 6])
        parts = [ZSTD_MAGIC, descriptor, header]
        total, last = 5 + len(header), 0
        while not last:
            block = self._read(3)
            word = int.from_bytes(block, "little")
            last, kind, size = word & 1, word >> 1 & 3, word >> 3
            body = self._read(1 if kind == 1 else size)
            parts += [block, body]
            total += 3 + len(body)
            if kind == 3 or total > 2 * 4 * FRAME_TOKENS:
                raise BadInput(f"{where} is damaged (its blocks); make the shard again")
        if flags & 4:
            parts.append(self._read(4))
        return b"".join(parts)

    def _read(self, size: int, allow_end: bool = False) -> bytes:
        parts = []
        while size:
            part = self._stream.read(min(size, _CHUNK))
            if not part:
                break
            self.offset += len(part)
            size -= len(part)
            parts.append(part)
        if size and (parts or not allow_end):
            raise BadInput(f"{self.name} was cut short: it ends inside a frame at byte {self.offset}; make it again")
        return b"".join(parts) if len(parts) != 1 else parts[0]


def check_seek_table(source: FrameSource, entries: list[list[int]]) -> None:
    """Read the seek table, which comes next, and compare it with the entries for the frames that were met."""
    if source.next_magic() != SEEK_MAGIC:
        raise BadInput(f"{source.name} was cut short: it has no seek table at byte {source.offset}; make it again")
    if parse_seek_table(source.skippable_payload(MAX_TABLE), source.name).tolist() != entries:
        raise BadInput(f"{source.name}: the seek table is damaged; make the shard again")


def frame_place(name: str, number: int, offset: int) -> str:
    """Return how messages name a data frame: the file, the frame counted from 0, its byte."""
    return f"{name}: frame {number} at byte {offset}"


def no_footer(name: str, offset: int) -> BadInput:
    """Return the error for a shard that stops before its footer."""
    return BadInput(f"{name} was cut short: it ends at byte {offset} without a footer; make it again")


def _compressor() -> zstandard.ZstdCompressor:
    return zstandard.ZstdCompressor(level=LEVEL, write_checksum=True, write_content_size=True)


def _json(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _parse_json(data: bytes, what: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise BadInput(f"{what} is damaged: it is not JSON; make the shard again") from None
    if not isinstance(value, dict):
        raise BadInput(f"{what} is damaged: it is no JSON object; make the shard again")
    return value


def _check_schema(fields: dict[str, Any], expected: str, name: str) -> None:
    refuse_newer(fields.get("schema"), expected, name)
    if fields.get("schema") != expected:
        raise BadInput(f"{name} is no gpt2 token shard: its metadata says {str(fields.get('schema'))[:40]!r}")


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise ValueError(value)
    return value


def _digest(value: object) -> str:
    if not isinstance(value, str) or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
        raise ValueError(value)
    return value


def _text_or_none(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError(value)
    (value or "").encode()  # a lone surrogate is a ValueError too
    return value
