"""JSONL records: UTF-8, LF, one object a line, first key `schema`; streams on stdout close with gpt2.end/1."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from gpt2cli.errors import BadInput
from gpt2cli.records.schemas import SCHEMAS, newer_format, parse_schema, schema_name
from gpt2cli.records.streams import WINDOW_LOG, display_name, open_input, proves_its_end, read_lines

Record = dict[str, Any]
MAX_NUMBER_DIGITS = 308
"""Most digits of a whole number: what has as many is still a float, so nothing overflows that computes with it."""
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def encode_record(kind: str, fields: Record) -> bytes:
    """Return one line (with its LF) for a record of `kind`.

    Raises ValueError for NaN or infinity and KeyError for a missing required field: both are bugs, not bad input.
    """
    for name in SCHEMAS[kind][1]:
        fields[name]
    record = {"schema": schema_name(kind), **fields}
    return _ENCODER.encode(record).encode() + b"\n"


class EndDigest:
    """Counts and hashes the lines of a stream since its previous end record."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._count = 0

    def add(self, line: bytes) -> None:
        """Take in one line with its LF."""
        self._sha256.update(line)
        self._count += 1

    def end_record(self) -> bytes:
        """Return the gpt2.end/1 line for the lines taken in, and start anew."""
        line = encode_record("gpt2.end", {"count": self._count, "sha256": self._sha256.hexdigest()})
        self._sha256, self._count = hashlib.sha256(), 0
        return line

    def matches(self, record: Record) -> bool:
        """Whether an end record tells of exactly the lines taken in."""
        return record.get("count") == self._count and record.get("sha256") == self._sha256.hexdigest()


class RecordWriter:
    """Writes records to a binary stream, counting and hashing them for the end record."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = EndDigest()
        self.count = 0

    def write(self, kind: str, fields: Record) -> None:
        """Write one record of `kind`."""
        self.write_line(encode_record(kind, fields))

    def write_line(self, line: bytes) -> None:
        """Write one record that encode_record made elsewhere."""
        self._stream.write(line)
        self._digest.add(line)
        self.count += 1

    def end(self) -> None:
        """Write gpt2.end/1: the count and sha256 of the lines since the previous end. For stdout only."""
        self._stream.write(self._digest.end_record())


@dataclass
class ReadTally:
    """What a reader met: records kept, lines skipped by reason, and whether the stream proved complete."""

    records: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def skip(self, reason: str) -> None:
        """Count one skipped line."""
        self.skipped[reason] = self.skipped.get(reason, 0) + 1


def read_records(
    path: str | os.PathLike[str],
    tally: ReadTally,
    *,
    kinds: tuple[str, ...] | None = None,
    foreign: bool = False,
    strict: bool = False,
    window_log: int = WINDOW_LOG,
) -> Iterator[Record]:
    """Yield the records of a JSONL file or stdin (`-`), zstd or plain.

    kinds: only these are yielded, others are counted in `tally`; None yields every known kind.
    foreign: objects without a `schema` field are yielded too (other people's JSONL).
    strict: a missing or mismatching end record on stdin is BadInput; otherwise one warning in `tally`. A compressed
        stream needs none: its last frame proves the end.
    Raises BadInput for a line that is no JSON object, a newer schema number or a missing required field.
    """
    with open_input(path, window_log=window_log) as stream:
        yield from parse_records(stream, display_name(path), tally, kinds=kinds, foreign=foreign,
                                 strict=strict, expect_end=str(path) == "-" and not proves_its_end(stream))


def parse_records(
    stream: BinaryIO,
    name: str,
    tally: ReadTally,
    *,
    kinds: tuple[str, ...] | None = None,
    foreign: bool = False,
    strict: bool = False,
    expect_end: bool = False,
) -> Iterator[Record]:
    """Yield records from an open byte stream; see read_records. `expect_end` demands gpt2.end/1 at the close."""
    digest, ours, ended = EndDigest(), False, False
    complain = _complainer(tally, strict)
    for number, line in enumerate(read_lines(stream, name), 1):
        if not line.strip():
            tally.skip("blank line")
            continue
        record = parse_line(line, f"{name} line {number}")
        parsed = _known_version(parse_schema(record.get("schema")), f"{name} line {number}")
        if parsed and parsed[0] == "gpt2.end":
            if not digest.matches(record):
                complain(f"{name}: the end record at line {number} does not match the lines before it")
            digest, ended = EndDigest(), True
            continue
        ended = False
        digest.add(line + b"\n")
        ours = ours or parsed is not None
        if _wanted(record, parsed, f"{name} line {number}", tally, kinds, foreign):
            tally.records += 1
            yield record
    if expect_end and ours and not ended:
        complain(f"{name} has no end record: it may have been cut short")


def _complainer(tally: ReadTally, strict: bool) -> Callable[[str], None]:
    def complain(text: str) -> None:
        if strict:
            raise BadInput(text)
        tally.warnings.append(text)

    return complain


def _known_version(parsed: tuple[str, int] | None, where: str) -> tuple[str, int] | None:
    if parsed and parsed[0] in SCHEMAS and parsed[1] > SCHEMAS[parsed[0]][0]:
        raise newer_format(where, *parsed)
    return parsed


def _wanted(
    record: Record,
    parsed: tuple[str, int] | None,
    where: str,
    tally: ReadTally,
    kinds: tuple[str, ...] | None,
    foreign: bool,
) -> bool:
    if "schema" not in record:
        if not foreign:
            tally.skip("no schema")
        return foreign
    if parsed is None or parsed[0] not in SCHEMAS:
        tally.skip(f"unknown schema {str(record['schema'])[:40]!r}")
        return False
    kind = parsed[0]
    if kinds is not None and kind not in kinds:
        tally.skip(kind)
        return False
    missing = [name for name in SCHEMAS[kind][1] if name not in record]
    if missing:
        raise BadInput(f"{where}: a {kind} record without {', '.join(missing)}")
    return True


def parse_line(line: bytes, where: str) -> Record:
    """Parse one JSON object; raise BadInput naming `where` for anything else (bad UTF-8, NaN, depth, huge numbers)."""
    try:
        value = _DECODER.decode(line.decode("utf-8"))
    except RecursionError:
        raise BadInput(f"{where}: JSON nested too deeply") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{where}: not UTF-8 at byte {error.start} of the line") from None
    except json.JSONDecodeError as error:
        raise BadInput(f"{where}: not JSON ({error.msg} at character {error.pos})") from None
    except ValueError as error:
        raise BadInput(f"{where}: {error}") from None
    if not isinstance(value, dict):
        raise BadInput(f"{where}: a JSON object was expected, not {type(value).__name__}")
    return value


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON number")


def _finite_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("a number beyond the range of a float")
    return value


def _bounded_int(text: str) -> int:
    if len(text) > MAX_NUMBER_DIGITS:
        raise ValueError("a number with too many digits")
    return int(text)


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=_bounded_int, parse_float=_finite_float)
