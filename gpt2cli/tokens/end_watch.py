"""Whether a stream of our own records is whole: gpt2.end/1 counts and hashes the lines before it (gpt2-records(5))."""

from __future__ import annotations

import contextlib
import hashlib

from gpt2cli.errors import BadInput
from gpt2cli.records.jsonl import ReadTally, Record, parse_line
from gpt2cli.records.schemas import parse_schema


class EndWatch:
    """Looks on as whole lines pass, and warns in `tally` when an end record is wrong or missing.

    It watches only streams whose first record is ours. `expect_end`: a missing end is worth a warning.
    """

    def __init__(self, name: str, tally: ReadTally, expect_end: bool) -> None:
        self._name = name
        self._tally = tally
        self._expect_end = expect_end
        self._ours: bool | None = None
        self._sha256 = hashlib.sha256()
        self._count = 0
        self._ended = False

    def pass_lines(self, data: bytes) -> None:
        """Take in whole lines; only the last of the stream may lack its LF."""
        if self._ours is None and data.strip():
            self._ours = b'"gpt2.' in data.lstrip()[:64]
        if not self._ours:
            return
        if not data.endswith(b"\n"):
            data += b"\n"
        if b'"gpt2.end/' not in data and b"\n\n" not in data and not data.startswith(b"\n"):
            self._add(data)
            return
        for line in _lines(data):
            record = _end_record(line)
            if record is not None:
                self._end(record)
            elif line.strip():
                self._add(line)

    def pass_part(self, part: bytes, last: bool) -> None:
        """Take in a part of one long line, which is no end record, without its LF."""
        if self._ours is None:
            self._ours = b'"gpt2.' in part.lstrip()[:64]
        if self._ours:
            self._sha256.update(part + b"\n" if last else part)
            self._count += last
            self._ended = False

    def finish(self) -> None:
        """Take the end of the stream for what it is."""
        if self._expect_end and self._ours and not self._ended:
            self._tally.warnings.append(f"{self._name} has no end record: it may have been cut short")

    def _add(self, lines: bytes) -> None:
        self._sha256.update(lines)
        self._count += lines.count(b"\n")
        self._ended = False

    def _end(self, record: Record) -> None:
        if (record.get("count"), record.get("sha256")) != (self._count, self._sha256.hexdigest()):
            self._tally.warnings.append(f"{self._name}: an end record does not match the {self._count:,} lines before "
                                        "it: lines were lost or changed")
        self._sha256, self._count, self._ended = hashlib.sha256(), 0, True


def _lines(data: bytes) -> list[bytes]:
    return [line + b"\n" for line in data.removesuffix(b"\n").split(b"\n")]


def _end_record(line: bytes) -> Record | None:
    if b'"gpt2.end/' in line:
        with contextlib.suppress(BadInput):
            record = parse_line(line, "")
            if (parse_schema(record.get("schema")) or ("", 0))[0] == "gpt2.end":
                return record
    return None
