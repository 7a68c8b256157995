"""Token shards as streams: ShardWriter writes one through a pipe, read_shard reads one (or a concatenation), verified.

ShardFile (random access through the seek table) lives in shard_file.py and is exported here.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from typing import BinaryIO

import numpy as np

from gpt2cli.errors import BadInput
from gpt2cli.records import shard_format as form
from gpt2cli.records.shard_file import ShardFile
from gpt2cli.records.shard_format import ShardFooter, ShardHeader
from gpt2cli.records.streams import ZSTD_MAGIC

__all__ = ["ShardFile", "ShardFooter", "ShardHeader", "ShardReader", "ShardWriter", "read_shard"]

_AHEAD = 8
"""Most frames that wait to be compressed or written while a shard is written with a pool."""


class ShardWriter:
    """Writes one shard to a binary stream, front to back. close() is what makes it whole.

    With a `pool` of threads, frames are compressed there, a few ahead of the one being written; the bytes are the same.
    """

    def __init__(self, stream: BinaryIO, header: ShardHeader, pool: Executor | None = None) -> None:
        self._stream = stream
        self._pool = pool
        self._ahead: deque[tuple[Future[bytes], int]] = deque()
        self.header = header
        self.tokens = 0
        self.documents = 0
        self._text_bytes: int | None = 0
        self._sha256 = hashlib.sha256()
        self._lengths: list[np.ndarray] = []
        self._recent: list[int] = []
        self._begun = 0
        self._buffer = np.empty(form.FRAME_TOKENS, dtype="<u2" if header.width == 2 else "<u4")
        self._filled = 0
        packed = form.pack_header(header)
        if len(packed) > form.MAX_HEADER:
            raise BadInput(f"a vocabulary too large for a shard header ({len(packed)} bytes)")
        self._header_sha256 = hashlib.sha256(packed).hexdigest()
        self._entries = [[len(packed), 0, form.NO_CONTENT]]
        stream.write(packed)

    def write_document(self, ids: np.ndarray, text_bytes: int | None = None) -> None:
        """Append one document: integer `ids` [n] without eot, which is added here.

        text_bytes: UTF-8 bytes of its text; if any document leaves it out, the footer's total is null.
        Raises ValueError for an id outside the vocabulary or an eot inside the document (a caller's bug).
        """
        self.write_part(ids)
        self._check_room(1, self._begun + 1)
        self._append(np.array([self.header.eot]))
        self._recent.append(self._begun + 1)
        self._begun = 0
        if len(self._recent) >= 1 << 16:
            self._keep_recent()
        self._count(1, text_bytes)

    def write_part(self, ids: np.ndarray) -> None:
        """Append the next `ids` [n] of a document too long to be held whole; write_document gives the last and ends it.

        Raises ValueError as write_document does.
        """
        if len(ids) and (int(ids.max()) >= self.header.n_vocab or int(ids.min()) < 0 or (ids == self.header.eot).any()):
            raise ValueError("an id outside the vocabulary, or end-of-text inside a document")
        self._append(ids)
        self._begun += len(ids)

    def write_documents(self, tokens: np.ndarray, lengths: np.ndarray, text_bytes: int | None = None) -> None:
        """Append many documents: `tokens` [n] with an eot after each, `lengths` [documents] with these eots counted.

        text_bytes: UTF-8 bytes of all their text, as in write_document.
        Raises ValueError for an id outside the vocabulary or an eot that does not end a document (a caller's bug).
        """
        if not len(lengths):
            return
        if self._begun:
            raise ValueError("documents in the midst of another")
        ends = np.cumsum(lengths, dtype=np.int64)
        if int(tokens.max()) >= self.header.n_vocab or int(tokens.min()) < 0 or not np.array_equal(
                np.flatnonzero(tokens == self.header.eot), ends - 1) or int(ends[-1]) != len(tokens):
            raise ValueError("an id outside the vocabulary, or end-of-text elsewhere than at each document's end")
        self._check_room(len(lengths), int(lengths.max()))
        self._append(tokens)
        self._keep_recent()
        self._lengths.append(lengths.astype("<u4"))
        self._count(len(lengths), text_bytes)

    def close(self, input_sha256: str | None) -> ShardFooter:
        """Write what is left, the footer and the seek table; return the footer. The stream stays open.

        input_sha256: hex digest of what the tokens were made from; None where an index.json tells it.
        """
        self._flush()
        while self._ahead:
            self._write_next()
        self._keep_recent()
        index = form.pack_index(np.concatenate(self._lengths))
        footer = ShardFooter(self.tokens, self.documents, self._sha256.hexdigest(), input_sha256, self._text_bytes,
                             self._header_sha256, form.frames_digest(self._entries[1:]), index)
        packed = form.pack_footer(footer)
        self._entries.append([len(packed), 0, form.NO_CONTENT])
        self._stream.write(packed)
        self._stream.write(form.pack_seek_table(self._entries))
        return footer

    def _check_room(self, documents: int, longest: int) -> None:
        if longest >= 1 << 32 or self.documents + documents > form.MAX_DOCUMENTS:
            raise BadInput("too many documents, or too long a document, for one shard; make several shards")

    def _keep_recent(self) -> None:
        self._lengths.append(np.array(self._recent, dtype="<u4"))
        self._recent = []

    def _count(self, documents: int, text_bytes: int | None) -> None:
        self.documents += documents
        if text_bytes is None or self._text_bytes is None:
            self._text_bytes = None
        else:
            self._text_bytes += text_bytes

    def _append(self, ids: np.ndarray) -> None:
        done = 0
        while done < len(ids):
            take = min(len(ids) - done, form.FRAME_TOKENS - self._filled)
            self._buffer[self._filled : self._filled + take] = ids[done : done + take]
            self._filled += take
            done += take
            if self._filled == form.FRAME_TOKENS:
                self._flush()

    def _flush(self) -> None:
        if not self._filled:
            return
        data = self._buffer[: self._filled].tobytes()
        self.tokens += self._filled
        self._filled = 0
        if self._pool is None:
            self._write_frame(form.compress_frame(data), len(data))
        else:
            self._ahead.append((self._pool.submit(form.compress_frame, data), len(data)))
            if len(self._ahead) > _AHEAD:
                self._write_next()
        self._sha256.update(data)

    def _write_next(self) -> None:
        frame, size = self._ahead.popleft()
        self._write_frame(frame.result(), size)

    def _write_frame(self, frame: bytes, size: int) -> None:
        self._entries.append([len(frame), size, form.frame_checksum(frame)])
        self._stream.write(frame)


class ShardReader:
    """Reads a shard, or shards joined by cat, front to back, checking everything on the way.

    `header` is read at once; `frames()` and `documents()` yield tokens and raise BadInput where the file is damaged,
    mixed or cut short; `footers` then holds one footer for each joined shard.
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._source = form.FrameSource(stream, name)
        self._name = name
        self._number = 0
        self.footers: list[ShardFooter] = []
        self.headers: list[ShardHeader] = []
        magic = self._source.next_magic()
        if magic is None:
            raise BadInput(f"{name} is empty: a token shard was expected")
        self.header = self._read_header(magic)

    def frames(self) -> Iterator[np.ndarray]:
        """Yield the tokens of each data frame, at most 131,072, as uint16 or uint32 [n]. Use once."""
        while True:
            yield from self._segment()
            magic = self._source.next_magic()
            if magic is None:
                return
            header = self._read_header(magic)
            if not header.same_tokens(self.header):
                raise BadInput(f"{self._name} joins shards of different vocabularies; tokenize all with one --vocab")

    def documents(self) -> Iterator[np.ndarray]:
        """Yield each document's tokens without its eot. A document is whole in memory. Use instead of frames()."""
        pending: list[np.ndarray] = []
        for tokens in self.frames():
            start = 0
            for end in np.flatnonzero(tokens == self.header.eot):
                part = tokens[start:end]
                yield np.concatenate([*pending, part]) if pending else part
                pending, start = [], int(end) + 1
            if start < len(tokens):
                pending.append(tokens[start:])
        if pending:
            raise BadInput(f"{self._name}: the last document has no end-of-text; make the shard again")

    def _read_header(self, magic: int) -> ShardHeader:
        if magic != form.HEADER_MAGIC:
            raise BadInput(f"{self._name} holds no token shard at byte {self._source.offset - 4}; "
                           "`gpt2 bpe-tokenize` makes one")
        start = self._source.offset - 4
        payload = self._source.skippable_payload(form.MAX_HEADER)
        self._header_sha256 = hashlib.sha256(form.skippable(magic, payload)).hexdigest()
        self._entries = [[self._source.offset - start, 0, form.NO_CONTENT]]
        self.headers.append(form.parse_header(payload, self._name))
        return self.headers[-1]

    def _segment(self) -> Iterator[np.ndarray]:
        digest, documents, last = hashlib.sha256(), 0, -1
        count = 0
        data_magic = int.from_bytes(ZSTD_MAGIC, "little")
        while (magic := self._source.next_magic()) == data_magic:
            start = self._source.offset - 4
            where = form.frame_place(self._name, self._number, start)
            if count % form.FRAME_TOKENS:
                raise BadInput(f"{where} follows a frame that is not full: frames are missing")
            frame = self._source.data_frame(where)
            tokens = self._tokens(frame, where)
            self._entries.append([len(frame), tokens.nbytes, form.frame_checksum(frame)])
            self._number += 1
            digest.update(tokens.data)
            count += len(tokens)
            documents += int(np.count_nonzero(tokens == self.header.eot))
            last = int(tokens[-1])
            yield tokens
        if magic is None:
            raise form.no_footer(self._name, self._source.offset)
        if magic != form.FOOTER_MAGIC:
            raise BadInput(f"{self._name} is damaged at byte {self._source.offset - 4}: neither a frame nor the footer "
                           "begins there; make the shard again")
        self._finish(digest.hexdigest(), count, documents, last)

    def _tokens(self, frame: bytes, where: str) -> np.ndarray:
        tokens = form.decompress_frame(frame, self.header.width, where)
        if int(tokens.max()) >= self.header.n_vocab:
            raise BadInput(f"{where} holds an id outside the vocabulary of {self.header.n_vocab}")
        return tokens

    def _finish(self, digest: str, count: int, documents: int, last: int) -> None:
        start = self._source.offset - 4
        footer = form.parse_footer(self._source.skippable_payload(form.MAX_FOOTER), self._name)
        found = (digest, count, documents, self._header_sha256, form.frames_digest(self._entries[1:]))
        self._entries.append([self._source.offset - start, 0, form.NO_CONTENT])
        if found != (footer.sha256, footer.tokens, footer.documents, footer.header_sha256, footer.frames_sha256):
            raise BadInput(f"{self._name}: the shard's footer does not match what it holds; make the shard again")
        if documents and last != self.header.eot:
            raise BadInput(f"{self._name}: the last document has no end-of-text; make the shard again")
        form.check_seek_table(self._source, self._entries)
        self.footers.append(footer)


def read_shard(stream: BinaryIO, name: str) -> tuple[ShardHeader, Iterator[np.ndarray]]:
    """Return a shard's header and its tokens frame by frame, as uint16 or uint32 [n <= 131,072].

    Streams in constant memory; joined shards are one. Every checksum, digest and count is verified on the way and the
    footer is demanded: BadInput comes at the latest after the last frame, so act on the whole only when it is done.
    """
    reader = ShardReader(stream, name)
    return reader.header, reader.frames()
