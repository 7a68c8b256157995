"""The texts whose quality is measured: records of `gpt2 sample --json`, documents JSONL, plain text, standard input.

Of a gpt2.sample/1 record the continuation (`text`) is measured, or with whole=True the prompt and it as one text. A
text without a character is a document like any other here, so that positions are kept.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, cast

from gpt2cli.errors import BadInput
from gpt2cli.records.jsonl import Record, parse_line
from gpt2cli.records.schemas import SCHEMAS, newer_format, parse_schema
from gpt2cli.records.shard_format import HEADER_MAGIC
from gpt2cli.records.streams import decompressed, display_name, open_raw_input, proves_its_end
from gpt2cli.tokens.document_batch import DocumentTally, LineBatch, LongDocument, record_text
from gpt2cli.tokens.documents import stream_batches
from gpt2cli.tokens.input_files import foreign_format, input_files
from gpt2cli.tokens.unicode_loss import decode_utf8, replace_surrogates

HARMLESS = frozenset(["blank lines", "files of other kinds in directories"])
"""Reasons to skip something that was never a document."""


@dataclass(frozen=True)
class Text:
    """One text that is measured, and what was given before it; key: the value of the field that pairs are told by."""

    text: str
    prompt: str = ""
    key: str | None = None
    where: str = ""


@dataclass(frozen=True)
class TextSource:
    """Where texts come from. No path is standard input, as is `-`.

    form: auto, jsonl or text. lines: each line of plain text is a document, without its line end. whole: of sample
    records prompt and continuation. key: the field of records that pairs are told by, None where it is not wanted.
    """

    paths: tuple[str, ...] = ()
    form: str = "auto"
    lines: bool = False
    whole: bool = False
    key: str | None = None


def read_texts(source: TextSource, tally: DocumentTally) -> list[Text]:
    """Return all texts in order, empty ones too; what is skipped or replaced is counted in `tally`.

    Raises BadInput for a broken line, a newer schema, a token shard, a file in a foreign format, and a record or plain
    text without the key that is asked for.
    """
    return [text for path in input_files(source.paths, tally) for text in _file(path, source, tally)]


def n_skipped(tally: DocumentTally) -> int:
    """Return how many records gave no document."""
    return sum(count for reason, count in tally.skipped.items() if reason not in HARMLESS)


def _file(path: str, source: TextSource, tally: DocumentTally) -> Iterator[Text]:
    with open_raw_input(path) as raw:
        name = display_name(path)
        buffered = raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(cast(io.RawIOBase, raw))
        start = buffered.peek(8)[:8]
        if start[:4] == HEADER_MAGIC.to_bytes(4, "little"):
            raise BadInput(f"{name} is a token shard; gpt2 shard export gives its text")
        if source.form == "auto" and (foreign := foreign_format(start)):
            raise BadInput(f"{name} is in {foreign} format, not text; unpack it first, or say --format text")
        stream = decompressed(cast(BinaryIO, buffered), name)
        yield from _stream(stream, name, source, tally, path == "-" and not proves_its_end(stream))


def _stream(stream: BinaryIO, name: str, source: TextSource, tally: DocumentTally, expect_end: bool) -> Iterator[Text]:
    for batch in stream_batches(stream, name, tally, source.form, expect_end=expect_end):
        if isinstance(batch, LineBatch):
            yield from _records(batch, source, tally)
        elif isinstance(batch, LongDocument):
            data = b"".join(batch.blocks)
            tally.loss.add(batch.loss)
            where = batch.where
            yield from _plain(decode_utf8(data, tally.loss, name, batch.offset), where, source, where != name)
        else:
            for _, offset, data in batch.texts:
                yield from _plain(decode_utf8(data, tally.loss, name, offset), name, source, False)
    if tally.skipped.pop("empty files", 0):
        yield from _plain("", name, source, False)


def _plain(text: str, where: str, source: TextSource, record: bool) -> Iterator[Text]:
    """Yield plain text as one document or its lines; of a record so long that its other fields were not kept, one."""
    if source.key is not None:
        long = "is too long a record to be paired by a field" if record else "is plain text, without any field"
        raise BadInput(f"{where} {long}, so it has no `{source.key}`; pair by position")
    if not source.lines or record:
        yield Text(text, where=where)
        return
    lines = text.split("\n")
    for number, line in enumerate(lines if lines[-1] else lines[:-1], 1):
        yield Text(line, where=f"{where} line {number}")


def _records(batch: LineBatch, source: TextSource, tally: DocumentTally) -> Iterator[Text]:
    offset = batch.offset
    for number, line in enumerate(batch.data.removesuffix(b"\n").split(b"\n"), batch.number):
        size, where = len(line) + 1, f"{batch.name} line {number}"
        if not line.strip():
            tally.skip("blank lines")
        else:
            if not line.isascii():
                line = decode_utf8(line, tally.loss, batch.name, offset).encode()
            record = parse_line(line, where)
            text = _sample(record, where, source) if _is_sample(record, where) else None
            if text is None and (plain := record_text(record, where, tally)) is not None:
                text = ("", plain)
            if text is not None:
                prompt, body = (_sound(part, where, tally) for part in text)
                yield Text(body, prompt, _key(record, source.key, where), where)
        offset += size


def _is_sample(record: Record, where: str) -> bool:
    parsed = parse_schema(record.get("schema"))
    if parsed is None or parsed[0] != "gpt2.sample":
        return False
    if parsed[1] > SCHEMAS["gpt2.sample"][0]:
        raise newer_format(where, *parsed)
    if not all(isinstance(record.get(name), str) for name in ("prompt", "text")):
        raise BadInput(f"{where}: a gpt2.sample record whose prompt and text are not both strings")
    return True


def _sample(record: Record, where: str, source: TextSource) -> tuple[str, str]:
    return ("", record["prompt"] + record["text"]) if source.whole else (record["prompt"], record["text"])


def _key(record: Record, field: str | None, where: str) -> str | None:
    if field is None:
        return None
    value = record.get(field)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise BadInput(f"{where} has no string or whole number in `{field}`, by which pairs are told")
    return str(value)


def _sound(text: str, where: str, tally: DocumentTally) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        text, lone = replace_surrogates(text)
        tally.loss.add_surrogates(lone, where)
    return text
