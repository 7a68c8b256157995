"""The lines of a documents file: which of them are documents, and what dedup has to know of each."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

from gpt2cli.errors import BadInput
from gpt2cli.records.jsonl import EndDigest, Record, parse_line
from gpt2cli.records.schemas import SCHEMAS, newer_format, parse_schema, schema_name
from gpt2cli.records.streams import display_name, open_input, proves_its_end, read_lines
from gpt2cli.reporter import Reporter

MAX_LINE = 1 << 29
"""Longest line in bytes: a document of 100 MB may be six times as long in JSON's escapes."""
KIND = "gpt2.document"
_OURS = b'{"schema":"' + schema_name(KIND).encode() + b'",'
_END = b'{"schema":"gpt2.end/'


def input_lines(path: str | os.PathLike[str], reporter: Reporter) -> Iterator[bytes]:
    """Yield the lines of a file or stdin (`-`), zstd or plain, but for end records, which become blank lines.

    An end record that is missing on stdin, or doesn't match the lines before it, is a warning; so is nothing at all.
    """
    name = display_name(path)
    number = 0
    ended, ours, digest = False, False, EndDigest()
    with open_input(path) as stream:
        expected = str(path) == "-" and not proves_its_end(stream)
        for number, line in enumerate(read_lines(stream, name, MAX_LINE), 1):
            if line.startswith(_END):
                if not digest.matches(parse_line(line, f"{name} line {number}")):
                    reporter.warn(f"{name}: the end record at line {number} does not match the lines before it")
                ended, digest, line = True, EndDigest(), b""
            elif line.strip():
                ended = False
                ours = ours or line.startswith(_OURS)
                digest.add(line + b"\n")
            yield line
    if expected and not number:
        reporter.warn(f"{name} is empty, without so much as an end record: what writes it may have failed")
    if expected and ours and not ended:
        reporter.warn(f"{name} has no end record: it may have been cut short")


def document_of(line: bytes, where: str) -> Record | str:
    """Return the fields of the document in a line, without `schema`; else why the line is passed over.

    An object without a schema but with a text is a document too; its id, if it has none, is the text's sha256.
    Raises BadInput for no JSON object, a newer schema, missing fields, or a text that is none.
    """
    if not line.strip():
        return "blank line"
    record = parse_line(line, where)
    if "schema" not in record:
        return _foreign(record, where)
    parsed = parse_schema(record.pop("schema"))
    if parsed is None or parsed[0] not in SCHEMAS:
        return "unknown schema"
    if parsed[1] > SCHEMAS[parsed[0]][0]:
        raise newer_format(where, *parsed)
    if parsed[0] != KIND:
        return parsed[0]
    for field in SCHEMAS[KIND][1]:
        if not isinstance(record.get(field), str):
            raise BadInput(f"{where}: a {KIND} record whose {field} is missing or no text")
    return _encodable(record, where)


def is_own_form(line: bytes) -> bool:
    """Whether a line that holds a document is already as this program writes it."""
    return line.startswith(_OURS)


def _foreign(record: Record, where: str) -> Record | str:
    text = record.get("text")
    if not isinstance(text, str):
        return "neither schema nor text"
    _encodable(record, where)
    name = record.get("id")
    if type(name) is int:
        name = str(name)
    rest = {field: value for field, value in record.items() if field not in ("id", "text")}
    return {"id": name if isinstance(name, str) else hashlib.sha256(text.encode()).hexdigest(), **rest, "text": text}


def _encodable(record: Record, where: str) -> Record:
    try:
        for value in record.values():
            if isinstance(value, str) and not value.isascii():
                value.encode()
    except UnicodeEncodeError:
        raise BadInput(f"{where}: a record with a lone surrogate, which no UTF-8 file can hold") from None
    return record
