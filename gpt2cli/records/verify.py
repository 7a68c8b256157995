"""Verdicts on artefacts, and the check of JSONL records. Every check returns a Verdict instead of raising, so that
one damaged file does not hide the next.

Shards are checked in verify_shards, checkpoints and runs in verify_models, vocabularies where they are understood, in
tokens.check_vocabulary.
"""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from gpt2cli.errors import Gpt2Error, Interrupted
from gpt2cli.records.artefact_kind import MISSING, RECORDS, UNREADABLE
from gpt2cli.records.jsonl import ReadTally, Record, parse_records
from gpt2cli.records.named_file import NamedFile
from gpt2cli.records.streams import decompressed
from gpt2cli.reporter import Reporter

_TELL_EVERY = 4 << 20
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Verdict:
    """What was found: kind of artefact, problems as sentences (none: it is sound), and a few counts."""

    kind: str
    problems: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def status(self) -> int:
        """The exit status that this verdict alone would give: 0, 65 damaged, 74 unreadable, 2 missing."""
        return {MISSING: 2, UNREADABLE: 74}.get(self.kind, 65) if self.problems else 0

    def record(self, path: str) -> Record:
        """Return the fields of a gpt2.verify/1 record."""
        return {"path": _in_utf8(path), "ok": not self.problems, "kind": self.kind,
                "problems": [_in_utf8(problem) for problem in self.problems], "facts": self.facts}


def _in_utf8(text: str) -> str:
    """A file's name need not be UTF-8, a record is."""
    return re.sub("[\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", text)


class Reading:
    """How far the check of one artefact has come, in bytes read; obeys a wish to stop by raising Interrupted.

    `total` is the bytes to come, None where nobody knows (a pipe).
    """

    def __init__(self, reporter: Reporter, name: str, total: int | None = None) -> None:
        self._reporter = reporter
        self._name = name
        self.total = total
        self._done = 0
        self._told = 0
        self._digests: dict[Path, str] = {}

    def advance(self, size: int) -> None:
        """Count `size` more bytes."""
        self._done += size
        if self._done - self._told >= _TELL_EVERY:
            self._told = self._done
            self._reporter.progress(self._done, self.total, "bytes", file=self._name)
            if self._reporter.stopping():
                raise Interrupted

    def sha256(self, path: Path) -> str:
        """Return the hex sha256 of a file, read once however often it is asked for."""
        if path not in self._digests:
            digest = hashlib.sha256()
            with NamedFile(path) as file:
                while data := file.read(_CHUNK):
                    digest.update(data)
                    self.advance(len(data))
            self._digests[path] = digest.hexdigest()
        return self._digests[path]


class Watched(io.RawIOBase):
    """A stream that tells a Reading of every byte read through it."""

    def __init__(self, source: BinaryIO, reading: Reading) -> None:
        self._source = cast(io.RawIOBase, source)
        self._reading = reading

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into `buffer`."""
        size = self._source.readinto(buffer) or 0
        self._reading.advance(size)
        return size


def watched(source: BinaryIO, reading: Reading) -> io.BufferedReader:
    """Return `source` with a buffer, its progress told to `reading`."""
    return io.BufferedReader(Watched(source, reading), _CHUNK)


def verify_records(stream: io.BufferedReader, name: str) -> Verdict:
    """Read JSONL to its end: syntax, schemas, end records, and each document's id against its text."""
    tally = ReadTally()
    problems: list[str] = []
    wrong = 0
    try:
        lines = decompressed(cast(BinaryIO, stream), name)
        for number, record in enumerate(parse_records(lines, name, tally, foreign=True), 1):
            if str(record.get("schema", "")).startswith("gpt2.document/") and not _is_named_by_its_text(record):
                wrong += 1
                if wrong == 1:
                    problems.append(f"{name}: the id of record {number} is not the sha256 of its text")
    except Gpt2Error as error:
        problems.append(str(error))
    if wrong > 1:
        problems.append(f"{name}: {wrong:,} documents in all are not what their ids say")
    facts: dict[str, Any] = {"records": tally.records}
    if tally.skipped:
        facts["skipped"] = dict(sorted(tally.skipped.items()))
    return Verdict(RECORDS, problems + tally.warnings, facts)


def _is_named_by_its_text(record: Record) -> bool:
    text = record["text"]
    return isinstance(text, str) and hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() == record["id"]
