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
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import zstandard

from gpt2cli.errors import BadInput
from gpt2cli.records.streams import ZSTD_MAGIC

FRAME_TOKENS = 131_072
"""Tokens in every data frame but the last of a shard: 256 KiB of uint16, one seek's worth of work."""
LEVEL = 3
HEADER_MAGIC = 0x184D2A50
FOOTER_MAGIC = 0x184D2A51
SEEK_MAGIC = 0x184D2A5E
SEEKABLE = 0x8F92EAB1
HEADER_SCHEMA = "gpt2.shard/1"
FOOTER_SCHEMA = "gpt2.shard-footer/1"
MAX_HEADER = 32 << 20
"""Largest header, which may carry a vocabulary, in bytes."""
MAX_FOOTER = 1 << 30
MAX_DOCUMENTS = 1 << 27
"""Most documents in one shard stream: its index is 4 bytes for each."""
SMALL_VOCABULARY = 65_536
"""Ids fit uint16 up to this n_vocab."""
_CHUNK = 1 << 20


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
    """The account at a shard's end. `sha256` is over the uncompressed token bytes; `text_bytes` None when unknown."""

    tokens: int
    documents: int
    sha256: str
    input_sha256: str | None
    text_bytes: int | None
    header_sha256: str
    packed_index: bytes

    def lengths(self) -> np.ndarray:
        """Return the document index: tokens of each document in order, its eot included, as uint32 [documents]."""
        data = zstandard.ZstdDecompressor().decompress(self.packed_index) if self.documents else b""
        return np.frombuffer(data, dtype="<u4")


@dataclass(frozen=True)
class Frame:
    """Where one data frame lies in the file and which tokens it holds (`start` counts within the whole file)."""

    number: int
    offset: int
    size: int
    start: int
    tokens: int


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
                             origin, text_bytes, _digest(fields["header_sha256"]),
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
    try:
        lengths = footer.lengths() if _declared(footer.packed_index) == 4 * footer.documents else None
    except zstandard.ZstdError:
        lengths = None
    if lengths is None or int(lengths.sum(dtype=np.uint64)) != footer.tokens or not lengths.all():
        raise BadInput(f"{name}: the shard footer is damaged: its document index does not add up to its tokens")


def _declared(frame: bytes) -> int:
    return zstandard.get_frame_parameters(frame).content_size


def pack_index(lengths: np.ndarray) -> bytes:
    """Return a document index: the lengths as little-endian uint32 in one zstd frame; b"" for none."""
    data = lengths.astype("<u4").tobytes()
    return _compressor().compress(data) if data else b""


def pack_seek_table(entries: list[tuple[int, int]]) -> bytes:
    """Return the standard seek table for (compressed, decompressed) sizes of all frames before it."""
    table = np.array(entries, dtype="<u4").tobytes()
    return skippable(SEEK_MAGIC, table + struct.pack("<IBI", len(entries), 0, SEEKABLE))


def parse_seek_table(payload: bytes, name: str) -> np.ndarray:
    """Return a seek table's sizes as int64 [frames, 2]: compressed, decompressed."""
    if len(payload) >= 9:
        count, descriptor, magic = struct.unpack("<IBI", payload[-9:])
        if magic == SEEKABLE and descriptor == 0 and len(payload) == 9 + 8 * count:
            return np.frombuffer(payload, dtype="<u4", count=2 * count).reshape(-1, 2).astype(np.int64)
    raise BadInput(f"{name}: the seek table is damaged; make the shard again")


def compress_frame(tokens: bytes) -> bytes:
    """Return one independent data frame, content size and checksum on (python-zstandard leaves checksums out)."""
    return _compressor().compress(tokens)


def decompress_frame(data: bytes, width: int, where: str) -> np.ndarray:
    """Return the tokens of one complete data frame; raise BadInput naming `where` when its checksum fails."""
    size = content_size(data, width, where)
    try:
        tokens = zstandard.ZstdDecompressor(max_window_size=1 << 23).decompress(data, max_output_size=size)
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
    """Read the seek table, which comes next, and compare it with the [compressed, decompressed] sizes that were met."""
    if source.next_magic() != SEEK_MAGIC:
        raise BadInput(f"{source.name} was cut short: it has no seek table at byte {source.offset}; make it again")
    if parse_seek_table(source.skippable_payload(MAX_FOOTER), source.name).tolist() != entries:
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
    kind, _, version = str(fields.get("schema")).rpartition("/")
    known, _, current = expected.rpartition("/")
    if kind == known and version.isascii() and version.isdigit() and len(version) < 6 and int(version) > int(current):
        raise BadInput(f"{name}: its format {kind}/{version} was written by a newer gpt2; update this one")
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
    return value
