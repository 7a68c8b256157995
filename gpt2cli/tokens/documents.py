"""Documents from what people have: JSONL of ours or of others, plain text, directories; zstd or plain, also a pipe.

What an input is, is told by a name in .jsonl or .ndjson, else by its content: it is JSONL when its first line that is
not blank parses as a JSON object (of a line above 1 MiB: when its first MiB may go on to be one), else text. Newlines
are never translated and nothing is trimmed. What is skipped or replaced is counted. Reading holds a few MiB, however
long a line or a text is.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, cast

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.records.jsonl import parse_line
from gpt2cli.records.shard_format import HEADER_MAGIC
from gpt2cli.records.streams import decompressed, display_name, open_raw_input, proves_its_end
from gpt2cli.tokens.document_batch import (
    DocumentTally,
    LineBatch,
    LongDocument,
    TextBatch,
    count_empty,
    record_text,
)
from gpt2cli.tokens.end_watch import EndWatch
from gpt2cli.tokens.input_files import foreign_format, input_files
from gpt2cli.tokens.long_record import begins_object, read_long_record

FORMATS = ("auto", "jsonl", "text")
BLOCK = 1 << 19
"""Bytes that are read at once and make a batch."""
LONG_LINE = 1 << 20
"""A longer line is not held: its text goes through a temporary file."""
_BOM = b"\xef\xbb\xbf"
_RECORDS = re.compile(r"\.(jsonl|ndjson)(\.\w+)?$")
Work = LineBatch | TextBatch | LongDocument


def read_batches(paths: Sequence[str | os.PathLike[str]], tally: DocumentTally, form: str = "auto",
                 split_on: str | None = None) -> Iterator[Work]:
    """Yield what `paths` hold in order, as batches of lines, batches of texts and long documents.

    No path means standard input, as does `-`; directories are walked. form: "jsonl" or "text" for all inputs, or "auto"
    to tell by a name in .jsonl or .ndjson, else by content. split_on: plain text is cut into documents at every such
    string, which belongs to none of them. Records need a `text` field; those without, or with an empty one, are skipped
    and counted in `tally`. Raises BadInput for a broken JSONL line, a newer schema or a directory without text.
    """
    for path in input_files(paths, tally):
        with open_raw_input(path) as raw:
            name = display_name(path)
            buffered = raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(cast(io.RawIOBase, raw))
            start = buffered.peek(8)[:8]
            if start[:4] == HEADER_MAGIC.to_bytes(4, "little"):
                raise BadInput(f"{name} is a token shard, not text: it is encoded already")
            if form == "auto" and (foreign := foreign_format(start)):
                raise BadInput(f"{name} is in {foreign} format, not text; unpack it first, or say --format text")
            stream = decompressed(cast(BinaryIO, buffered), name)
            expect_end = str(path) == "-" and not proves_its_end(stream)
            yield from stream_batches(stream, name, tally, form, split_on, expect_end=expect_end)


def stream_batches(stream: BinaryIO, name: str, tally: DocumentTally, form: str = "auto", split_on: str | None = None,
                   *, expect_end: bool = False) -> Iterator[Work]:
    """Yield what one open byte stream holds; see read_batches."""
    if form not in FORMATS:
        raise UsageFault(f"there is no format {form!r}; choose auto, jsonl or text")
    start = b""
    if split_on is not None:
        if form == "jsonl" or not split_on:
            raise UsageFault("--split-on cuts plain text, at a string that is not empty")
        form = "text"
    elif form == "auto":
        start = _head(stream)
        form = "jsonl" if _RECORDS.search(name) or _is_object(start) else "text"
    if form == "text":
        whole = cast(BinaryIO, io.BufferedReader(_Joined(start, stream), BLOCK)) if start else stream
        yield from _text_batches(whole, name, tally, split_on)
    else:
        yield from _line_batches(start, stream, name, tally, expect_end)


def _line_batches(start: bytes, stream: BinaryIO, name: str, tally: DocumentTally, expect_end: bool
                  ) -> Iterator[Work]:
    watch = EndWatch(name, tally, expect_end)
    start = start or _block(stream)
    offset = len(_BOM) if start.startswith(_BOM) else 0
    held, number = start[offset:], 1
    while True:
        more = _block(stream)
        data = held + more
        size = data.rfind(b"\n") + 1 if more else len(data)
        if size:
            held = data[size:]
            watch.pass_lines(data[:size])
            yield LineBatch(name, number, offset, data[:size])
            number, offset = number + data.count(b"\n", 0, size), offset + size
        elif len(data) > LONG_LINE:
            line = _LongLine(data, stream, watch)
            yield from _long_record(line, f"{name} line {number}", name, offset, tally)
            held, number, offset = line.rest, number + 1, offset + line.size
        else:
            held = data
        if not more:
            break
    watch.finish()


class _LongLine:
    """A line that begins with `start`, chunk by chunk without its LF; then `size` in bytes with it, and `rest`."""

    def __init__(self, start: bytes, stream: BinaryIO, watch: EndWatch) -> None:
        self._start = start
        self._stream = stream
        self._watch = watch
        self.size = 0
        self.rest = b""

    def chunks(self) -> Iterator[bytes]:
        """Yield the chunks. Use once, to the end."""
        chunk, newline = self._start, -1
        while chunk and newline < 0:
            newline = chunk.find(b"\n")
            part = chunk if newline < 0 else chunk[:newline]
            self.size += len(part) + (newline >= 0)
            self._watch.pass_part(part, newline >= 0)
            if part:
                yield part
            if newline < 0:
                chunk = _block(self._stream)
        if newline < 0:
            self._watch.pass_part(b"", True)
        else:
            self.rest = chunk[newline + 1 :]


def _long_record(line: _LongLine, where: str, name: str, offset: int, tally: DocumentTally) -> Iterator[Work]:
    record = read_long_record(line.chunks(), where, name, offset)
    if record_text(record.fields, where, tally) is not None and record.size:
        tally.documents += 1
        yield LongDocument(name, where, 0, record.blocks(), record.loss)
        return
    record.close()
    tally.loss.add(record.loss)
    if record.spool is not None:
        count_empty(tally, "records with empty text")


def _text_batches(stream: BinaryIO, name: str, tally: DocumentTally, split_on: str | None) -> Iterator[Work]:
    reader = _TextReader(stream, split_on)
    texts: list[tuple[str, int, bytes]] = []
    size = 0
    while (found := reader.next_text()) is not None:
        offset, text = found
        if text is not None and not text:
            count_empty(tally, "empty files" if split_on is None else "empty texts between separators")
        elif text is not None:
            texts.append((name, offset, text))
            size += len(text)
        if texts and (text is None or size >= BLOCK):
            yield TextBatch(texts)
            texts, size = [], 0
        if text is None:
            tally.documents += 1
            yield LongDocument(name, f"{name} at byte {offset}" if split_on else name, offset, reader.long_text())
    if texts:
        yield TextBatch(texts)


class _TextReader:
    """Cuts a byte stream into texts at a separator, or not at all."""

    def __init__(self, stream: BinaryIO, split_on: str | None) -> None:
        self._stream = stream
        self._separator = split_on.encode() if split_on is not None else None
        self._data = b""
        self._at = 0
        self._base = 0
        self._ended = False
        self._first = True

    def next_text(self) -> tuple[int, bytes | None] | None:
        """Return the next text and its offset, None instead of one above LONG_LINE: long_text() gives that.

        Returns None at the end; what follows the last separator is a text only if it is not empty.
        """
        searched = self._at
        while True:
            end = self._find(searched)
            offset = self._base + self._at
            if end >= 0:
                text = self._take(end)
                self._first = False
                return offset, text
            if self._ended:
                text = self._take(len(self._data))
                if text or self._first:
                    self._first = False
                    return offset, text
                return None
            if len(self._data) - self._at > LONG_LINE:
                self._first = False
                return offset, None
            searched = max(0, len(self._data) - self._at - self._overlap())
            self._read()

    def long_text(self) -> Iterator[bytes]:
        """Yield the bytes of the text that next_text called long. Use once, to the end."""
        while True:
            end = self._find(self._at)
            if end >= 0 or self._ended:
                yield self._take(end if end >= 0 else len(self._data))
                return
            keep = len(self._data) - self._overlap()
            if keep > self._at:
                part = self._data[self._at : keep]
                self._at = keep
                yield part
            self._read()

    def _overlap(self) -> int:
        return len(self._separator) - 1 if self._separator is not None else 0

    def _find(self, start: int) -> int:
        return self._data.find(self._separator, max(start, self._at)) if self._separator is not None else -1

    def _take(self, end: int) -> bytes:
        text = self._data[self._at : end]
        self._at = min(len(self._data), end + (len(self._separator) if self._separator is not None else 0))
        return text

    def _read(self) -> None:
        more = _block(self._stream)
        self._base += self._at
        self._data, self._at = self._data[self._at :] + more, 0
        self._ended = not more


def _block(stream: BinaryIO) -> bytes:
    """Read BLOCK bytes, fewer only at the end. In steps, or a signal would wait for a pipe that stalls."""
    parts, missing = [], BLOCK
    while missing and (part := cast(io.BufferedReader, stream).read1(missing)):
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def _head(stream: BinaryIO) -> bytes:
    """Read up to the end of the first line that is not blank, or a little more than LONG_LINE."""
    head = b""
    while line := stream.readline(LONG_LINE + 1 - len(head)):
        head += line
        if line.strip().removeprefix(_BOM) or len(head) > LONG_LINE:
            break
    return head


def _is_object(head: bytes) -> bool:
    line = head.strip().removeprefix(_BOM)
    if not line.startswith(b"{"):
        return False
    if len(head) > LONG_LINE:
        return begins_object(line)
    with contextlib.suppress(BadInput):
        parse_line(line.decode("utf-8", "replace").encode(), "")
        return True
    return False


class _Joined(io.RawIOBase):
    """Bytes already read, then the rest of their stream."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head = memoryview(head)
        self._rest = rest

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer`; return how many bytes, 0 at the end."""
        if self._head:
            taken = min(len(buffer), len(self._head))
            buffer[:taken] = self._head[:taken]
            self._head = self._head[taken:]
            return taken
        data = cast(io.BufferedReader, self._rest).read1(len(buffer))
        buffer[: len(data)] = data
        return len(data)
