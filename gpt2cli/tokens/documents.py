"""Documents from what people have: JSONL of ours or of others (zstd or plain), or plain text, a document a file.

What an input is, is told by its content: it is JSONL when its first line that is not blank parses as a JSON object,
else text. Newlines are never translated and nothing is trimmed. What is skipped or replaced is counted.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.records.jsonl import ReadTally, parse_line, parse_records
from gpt2cli.records.shard_format import HEADER_MAGIC
from gpt2cli.records.streams import MAX_LINE, decompressed, display_name, open_raw_input, proves_its_end

FORMATS = ("auto", "jsonl", "text")
MAX_TEXT = 1 << 30
"""Largest plain-text document in bytes: it is held in memory."""
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Document:
    """One text, where it was found (file, and record or line), and the other fields of its record."""

    text: str
    where: str
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass
class DocumentTally(ReadTally):
    """What was met: `documents` yielded, `invalid_bytes` sequences that were no UTF-8, lines skipped by reason."""

    documents: int = 0
    invalid_bytes: int = 0
    empty: int = 0

    def sentences(self) -> list[str]:
        """Return what a person should be told, in a line or two; empty when all went in as it was."""
        lines = list(self.warnings)
        if self.skipped:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(self.skipped.items()))
            lines.append(f"skipped: {reasons}")
        if self.invalid_bytes:
            lines.append(f"replaced {self.invalid_bytes:,} byte sequences that are not UTF-8 by U+FFFD")
        return lines


def read_documents(paths: Sequence[str | os.PathLike[str]], tally: DocumentTally, form: str = "auto"
                   ) -> Iterator[Document]:
    """Yield the documents of `paths` in order; no path means standard input, as does `-`.

    form: "jsonl" or "text" for all inputs, or "auto" to tell by content. Records need a `text` field; those
    without, or with an empty one, are skipped and counted in `tally`. Raises BadInput for a broken JSONL line,
    a newer schema or a text above 1 GiB, UsageFault for a directory.
    """
    for path in paths or ("-",):
        if os.path.isdir(path):
            raise UsageFault(f"{path} is a directory; name its files, such as {os.path.join(str(path), '*.txt')}")
        with open_raw_input(path) as raw:
            name = display_name(path)
            buffered = raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(cast(io.RawIOBase, raw))
            if buffered.peek(4)[:4] == HEADER_MAGIC.to_bytes(4, "little"):
                raise BadInput(f"{name} is a token shard, not text: it is encoded already")
            stream = decompressed(cast(BinaryIO, buffered), name)
            expect_end = str(path) == "-" and not proves_its_end(stream)
            yield from parse_documents(stream, name, tally, form, expect_end=expect_end)


def parse_documents(stream: BinaryIO, name: str, tally: DocumentTally, form: str = "auto", *,
                    expect_end: bool = False) -> Iterator[Document]:
    """Yield one open byte stream's documents; see read_documents. `expect_end`: it should close with gpt2.end."""
    if form not in FORMATS:
        raise UsageFault(f"there is no format {form!r}; choose auto, jsonl or text")
    start = _head(stream) if form == "auto" else b""
    if form == "auto":
        form = "jsonl" if _is_object(start) else "text"
        if form == "jsonl":
            start = start.replace(_BOM, b"", 1) if start.lstrip().startswith(_BOM) else start
    whole = cast(BinaryIO, io.BufferedReader(_Joined(start, stream), 1 << 18))
    if form == "text":
        yield from _text_document(whole, name, tally)
    else:
        yield from _json_documents(whole, name, tally, expect_end)


def _json_documents(stream: BinaryIO, name: str, tally: DocumentTally, expect_end: bool) -> Iterator[Document]:
    records = parse_records(stream, name, tally, kinds=("gpt2.document",), foreign=True, expect_end=expect_end)
    for number, record in enumerate(records, 1):
        text = record.pop("text", None)
        if not isinstance(text, str):
            tally.skip("records without text" if text is None else "records whose text is no string")
        elif not text:
            tally.skip("records with empty text")
            tally.empty += 1
        else:
            tally.documents += 1
            yield Document(text, f"{name} record {number}", record)


def _text_document(stream: BinaryIO, name: str, tally: DocumentTally) -> Iterator[Document]:
    data = stream.read(MAX_TEXT + 1)
    if len(data) > MAX_TEXT:
        raise BadInput(f"{name} is one text of more than {MAX_TEXT} bytes; cut it into documents, or give JSONL")
    if not data:
        tally.skip("empty files")
        tally.empty += 1
        return
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("utf-8", "replace")
        tally.invalid_bytes += text.count("\ufffd") - data.count("\ufffd".encode())
    tally.documents += 1
    yield Document(text, name)


def _head(stream: BinaryIO) -> bytes:
    """Read up to the end of the first line that is not blank."""
    head = b""
    while line := stream.readline(MAX_LINE + 1 - len(head)):
        head += line
        if line.strip().removeprefix(_BOM) or len(head) > MAX_LINE:
            break
    return head


def _is_object(head: bytes) -> bool:
    line = head.strip().removeprefix(_BOM)
    if not line.startswith(b"{"):
        return False
    with contextlib.suppress(BadInput):
        parse_line(line, "")
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
        data = self._rest.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
