"""The units in which inputs are read, and the documents in them. Reading is cheap; parsing may be done elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from gpt2cli.errors import BadInput, counted_reasons
from gpt2cli.records.jsonl import ReadTally, Record, parse_line
from gpt2cli.records.schemas import SCHEMAS, newer_format, parse_schema
from gpt2cli.tokens.unicode_loss import UnicodeLoss, decode_utf8, replace_surrogates


@dataclass(frozen=True)
class Document:
    """One text without lone surrogates, and where it was found (file, and line or part)."""

    text: str
    where: str


@dataclass
class DocumentTally(ReadTally):
    """What was met: `documents` with text, `empty` ones, what was skipped by reason, and what was no Unicode."""

    documents: int = 0
    empty: int = 0
    loss: UnicodeLoss = field(default_factory=UnicodeLoss)

    def add(self, later: DocumentTally) -> None:
        """Count what was met later."""
        self.documents += later.documents
        self.empty += later.empty
        self.loss.add(later.loss)
        self.warnings += later.warnings
        for reason, count in later.skipped.items():
            self.skipped[reason] = self.skipped.get(reason, 0) + count

    def sentences(self) -> list[str]:
        """Return what a person should be told, a line each; empty when all went in as it was."""
        lines = list(self.warnings)
        if self.skipped:
            lines.append(f"skipped: {counted_reasons(self.skipped)}")
        return lines + self.loss.sentences()


@dataclass(frozen=True)
class LineBatch:
    """Whole lines of a JSONL input: the number of the first (from 1), its place in bytes, and the lines."""

    name: str
    number: int
    offset: int
    data: bytes


@dataclass(frozen=True)
class TextBatch:
    """Whole plain-text documents: for each, the name of its file, its place there in bytes, and its bytes."""

    texts: list[tuple[str, int, bytes]]


@dataclass(frozen=True)
class LongDocument:
    """One document too long to be held: its place, its bytes as an iterator that must be used up, its loss so far."""

    name: str
    where: str
    offset: int
    blocks: Iterator[bytes]
    loss: UnicodeLoss = field(default_factory=UnicodeLoss)


def documents_of(batch: LineBatch | TextBatch, tally: DocumentTally) -> Iterator[Document]:
    """Yield the documents of a batch. Raises BadInput for a line that is no JSON object, or of a newer schema."""
    return _of_lines(batch, tally) if isinstance(batch, LineBatch) else _of_texts(batch, tally)


def record_text(record: Record, where: str, tally: DocumentTally) -> str | None:
    """Return the text of a record that is a document, else None; what it is instead is counted in `tally`."""
    if str(record.get("schema")).startswith("gpt2.") and not _is_document(record, where, tally):
        return None
    if "text" not in record:
        tally.skip("records without text")
    elif record["text"] is None:
        tally.skip("records whose text is null")
    elif not isinstance(record["text"], str):
        tally.skip("records whose text is no string")
    else:
        return str(record["text"])
    return None


def count_empty(tally: DocumentTally, what: str) -> None:
    """Count a document without a character."""
    tally.skip(what)
    tally.empty += 1


def _of_lines(batch: LineBatch, tally: DocumentTally) -> Iterator[Document]:
    number, offset = batch.number - 1, batch.offset
    for line in batch.data.removesuffix(b"\n").split(b"\n"):
        number += 1
        size = len(line) + 1
        if not line.strip():
            tally.skip("blank lines")
        else:
            where = f"{batch.name} line {number}"
            if not line.isascii():
                line = decode_utf8(line, tally.loss, batch.name, offset).encode()
            text = record_text(parse_line(line, where), where, tally)
            if text == "":
                count_empty(tally, "records with empty text")
            elif text is not None:
                tally.documents += 1
                yield Document(_whole(text, where, tally), where)
        offset += size


def _of_texts(batch: TextBatch, tally: DocumentTally) -> Iterator[Document]:
    for name, offset, data in batch.texts:
        tally.documents += 1
        yield Document(decode_utf8(data, tally.loss, name, offset), name)


def _whole(text: str, where: str, tally: DocumentTally) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            text, lone = replace_surrogates(text)
            tally.loss.add_surrogates(lone, where)
    return text


def _is_document(record: Record, where: str, tally: DocumentTally) -> bool:
    parsed = parse_schema(record["schema"])
    if parsed is None or parsed[0] not in SCHEMAS:
        tally.skip(f"records of the unknown schema {record['schema'][:40]!r}")
        return False
    kind, version = parsed
    if version > SCHEMAS[kind][0]:
        raise newer_format(where, kind, version)
    if kind != "gpt2.document":
        if kind != "gpt2.end":
            tally.skip(f"{kind} records")
        return False
    missing = [name for name in SCHEMAS[kind][1] if name not in record]
    if missing:
        raise BadInput(f"{where}: a {kind} record without {', '.join(missing)}")
    return True
