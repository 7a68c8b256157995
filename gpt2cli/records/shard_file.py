"""Random access to a token shard: its seek table says which frames to decode."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections import OrderedDict
from dataclasses import replace
from typing import BinaryIO, cast

import numpy as np

from gpt2cli.errors import BadInput
from gpt2cli.records import shard_format as form
from gpt2cli.records.named_file import NamedFile
from gpt2cli.records.shard_format import Frame, ShardFooter, ShardHeader
from gpt2cli.records.streams import ZSTD_MAGIC

_TAIL = 9
_MAGIC_SIZE = 8


class ShardFile:
    """One shard file, read at any place. Opening reads header, footer and seek table; frames are checked as decoded.

    Shards joined by cat carry several seek tables: then the frames are found by one walk over the file.
    `footers` holds one footer for each joined shard; `footer` is the only one, or their sum with empty digests.
    Safe to read from several threads. Raises BadInput for damage and OSError from the file system.
    """

    def __init__(self, path: str | os.PathLike[str], cache_frames: int = 8) -> None:
        self.path = os.fspath(path)
        self._cache: OrderedDict[int, np.ndarray] = OrderedDict()
        self._cache_frames = cache_frames
        self._lock = threading.Lock()
        self._file = NamedFile(self.path)
        try:
            self._size = os.fstat(self._file.fileno()).st_size
            self.footers: list[ShardFooter] = []
            self.frames: list[Frame] = []
            self._open()
        except BaseException:
            self._file.close()
            raise

    @property
    def n_tokens(self) -> int:
        """Tokens in the file."""
        return sum(footer.tokens for footer in self.footers)

    @property
    def footer(self) -> ShardFooter:
        """The footer; for joined shards their sums, with empty digests and the joined document index."""
        if len(self.footers) == 1:
            return self.footers[0]
        sizes = [footer.text_bytes for footer in self.footers]
        known = [size for size in sizes if size is not None]
        lengths = np.concatenate([footer.lengths() for footer in self.footers])
        return replace(self.footers[0], tokens=self.n_tokens, documents=len(lengths), sha256="", input_sha256="",
                       header_sha256="", frames_sha256="", packed_index=form.pack_index(lengths),
                       text_bytes=sum(known) if len(known) == len(sizes) else None)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return tokens start to stop (0 <= start <= stop <= n_tokens) as a new uint16 or uint32 [stop - start]."""
        if not 0 <= start <= stop <= self.n_tokens:
            raise IndexError(f"tokens {start} to {stop} of {self.n_tokens} in {self.path}")
        out = np.empty(stop - start, dtype=f"<u{self.header.width}")
        number, done = self._frame_at(start), start
        while done < stop:
            frame = self.frames[number]
            end = min(stop, frame.start + frame.tokens)
            tokens = self._decode(frame)
            out[done - start : end - start] = tokens[done - frame.start : end - frame.start]
            done, number = end, number + 1
        return out

    def close(self) -> None:
        """Close the file and forget the decoded frames."""
        self._file.close()
        self._cache.clear()

    def __enter__(self) -> ShardFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _frame_at(self, token: int) -> int:
        return max(0, int(np.searchsorted(self._starts, token, side="right")) - 1)

    def _decode(self, frame: Frame) -> np.ndarray:
        with self._lock:
            if frame.number in self._cache:
                self._cache.move_to_end(frame.number)
                return self._cache[frame.number]
        where = form.frame_place(self.path, frame.number, frame.offset)
        data = self._bytes(frame.offset, frame.size)
        tokens = form.decompress_frame(data, self.header.width, where)
        asked = (frame.tokens, frame.checksum)
        if (len(tokens), form.frame_checksum(data)) != asked or int(tokens.max()) >= self.header.n_vocab:
            raise BadInput(f"{where} is damaged: it does not hold the tokens it should; make the shard again")
        with self._lock:
            self._cache[frame.number] = tokens
            while len(self._cache) > self._cache_frames:
                self._cache.popitem(last=False)
        return tokens

    def _bytes(self, offset: int, size: int) -> bytes:
        data = self._file.pread(size, offset)
        while len(data) < size:
            more = self._file.pread(size - len(data), offset + len(data))
            if not more:
                raise BadInput(f"{self.path} was cut short while it was read, at byte {offset + len(data)}")
            data += more
        return data

    def _open(self) -> None:
        table = self._seek_table()
        sizes = table[:, 0] if table is not None else None
        if table is None or sizes is None or _table_size(len(table)) + int(sizes.sum()) != self._size:
            self._walk()
        else:
            self._from_table(table)
        self._starts = np.array([frame.start for frame in self.frames], dtype=np.int64)
        held = sum(frame.tokens for frame in self.frames)
        if held != self.n_tokens:
            raise BadInput(f"{self.path}: its footer counts {self.n_tokens} tokens, its frames {held}; "
                           "make the shard again")

    def _seek_table(self) -> np.ndarray | None:
        if self._size < _TAIL:
            return None
        tail = self._bytes(self._size - _TAIL, _TAIL)
        if int.from_bytes(tail[5:], "little") != form.SEEKABLE:
            return None
        size = _table_size(int.from_bytes(tail[:4], "little")) - _MAGIC_SIZE
        if size + _MAGIC_SIZE > self._size:
            return None
        head = self._bytes(self._size - size - _MAGIC_SIZE, _MAGIC_SIZE)
        if head != form.SEEK_MAGIC.to_bytes(4, "little") + size.to_bytes(4, "little"):
            return None
        return form.parse_seek_table(self._bytes(self._size - size, size), self.path)

    def _from_table(self, table: np.ndarray) -> None:
        offsets = np.concatenate([[0], np.cumsum(table[:, 0])])
        if len(table) < 2 or table[0, 1] or table[-1, 1]:
            raise BadInput(f"{self.path}: the seek table is damaged; make the shard again")
        digest = self._take_header(*self._skippable(0, form.HEADER_MAGIC, form.MAX_HEADER), first=True)
        self._take_footer(self._skippable(int(offsets[-2]), form.FOOTER_MAGIC, form.MAX_FOOTER)[0], digest)
        if form.frames_digest(table[1:-1]) != self.footers[0].frames_sha256:
            raise BadInput(f"{self.path}: the seek table is damaged; make the shard again")
        start, width = 0, self.header.width
        for number, (size, raw, checksum) in enumerate(table[1:-1].tolist()):
            full = number < len(table) - 3
            if not 0 < raw <= form.FRAME_TOKENS * width or raw % width or (full and raw != form.FRAME_TOKENS * width):
                raise BadInput(f"{self.path}: the seek table is damaged; make the shard again")
            self.frames.append(Frame(number, int(offsets[number + 1]), size, start, raw // width, checksum))
            start += raw // width

    def _skippable(self, offset: int, magic: int, limit: int) -> tuple[bytes, bytes]:
        head = self._bytes(offset, _MAGIC_SIZE)
        size = int.from_bytes(head[4:], "little")
        if int.from_bytes(head[:4], "little") != magic or size > min(limit, self._size):
            what = "header" if magic == form.HEADER_MAGIC else "footer"
            raise BadInput(f"{self.path} has no {what} at byte {offset}: it is damaged, or no gpt2 token shard")
        payload = self._bytes(offset + _MAGIC_SIZE, size)
        return payload, head + payload

    def _take_header(self, payload: bytes, whole: bytes, first: bool) -> str:
        header = form.parse_header(payload, self.path)
        if first:
            self.header: ShardHeader = header
        elif not header.same_tokens(self.header):
            raise BadInput(f"{self.path} joins shards of different vocabularies; tokenize all with one --vocab")
        return hashlib.sha256(whole).hexdigest()

    def _take_footer(self, payload: bytes, header_sha256: str) -> None:
        footer = form.parse_footer(payload, self.path)
        if footer.header_sha256 != header_sha256:
            raise BadInput(f"{self.path}: the shard header is damaged; make the shard again")
        self.footers.append(footer)

    def _walk(self) -> None:
        """Find the frames of joined shards by reading the file once, without decoding."""
        self._file.seek(0)
        buffered = io.BufferedReader(self._file, 1 << 20)
        source = form.FrameSource(cast(BinaryIO, buffered), self.path)
        try:
            while (magic := source.next_magic()) is not None:
                self._walk_segment(source, magic)
        finally:
            buffered.detach()
        if not self.footers:
            raise BadInput(f"{self.path} is empty: a token shard was expected")

    def _walk_segment(self, source: form.FrameSource, magic: int | None) -> None:
        if magic != form.HEADER_MAGIC:
            raise BadInput(f"{self.path} holds no token shard at byte {source.offset - 4}; "
                           "`gpt2 bpe-tokenize` makes one")
        payload = source.skippable_payload(form.MAX_HEADER)
        digest = self._take_header(payload, form.skippable(magic, payload), not self.footers)
        entries = [[len(payload) + _MAGIC_SIZE, 0, form.NO_CONTENT]]
        start = self.n_tokens
        while (magic := source.next_magic()) == int.from_bytes(ZSTD_MAGIC, "little"):
            offset = source.offset - 4
            where = form.frame_place(self.path, len(self.frames), offset)
            data = source.data_frame(where)
            size = form.content_size(data, self.header.width, where)
            tokens, checksum = size // self.header.width, form.frame_checksum(data)
            self.frames.append(Frame(len(self.frames), offset, len(data), start, tokens, checksum))
            entries.append([len(data), size, checksum])
            start += tokens
        if magic is None:
            raise form.no_footer(self.path, source.offset)
        if magic != form.FOOTER_MAGIC:
            raise BadInput(f"{self.path} is damaged at byte {source.offset - 4}: neither a frame nor the footer "
                           "begins there; make the shard again")
        payload = source.skippable_payload(form.MAX_FOOTER)
        self._take_footer(payload, digest)
        if form.frames_digest(entries[1:]) != self.footers[-1].frames_sha256:
            raise BadInput(f"{self.path}: the shard's footer does not match what it holds; make the shard again")
        entries.append([len(payload) + _MAGIC_SIZE, 0, form.NO_CONTENT])
        form.check_seek_table(source, entries)


def _table_size(entries: int) -> int:
    return _MAGIC_SIZE + form.SEEK_ENTRY * entries + _TAIL
