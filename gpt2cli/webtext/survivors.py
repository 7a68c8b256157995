"""The second reading of the documents: those that are no duplicates go on in their order, the others to the rejects."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from gpt2cli.errors import BadInput, Interrupted
from gpt2cli.records.jsonl import RecordWriter
from gpt2cli.reporter import Reporter
from gpt2cli.webtext.document_lines import KIND, document_of, is_own_form
from gpt2cli.webtext.duplicates import Duplicate
from gpt2cli.webtext.tally import StepTally


class DropList:
    """Duplicates in the order of the inputs, asked for one line after another."""

    def __init__(self, duplicates: Iterable[Duplicate]) -> None:
        self._rest: Iterator[Duplicate] = iter(duplicates)
        self._next = next(self._rest, None)

    def take(self, part: int, line: int) -> Duplicate | None:
        """Return the duplicate that stands in this line of this input, if one does."""
        found = self._next
        if found is None or (found.part, found.line) != (part, line):
            return None
        self._next = next(self._rest, None)
        return found

    def left(self, part: int) -> bool:
        """Whether the next duplicate stands in this input."""
        return self._next is not None and self._next.part <= part


def write_survivors(
    part: int,
    lines: Iterable[bytes],
    name: str,
    expected_blake2b: str,
    drops: DropList,
    sink: RecordWriter,
    tally: StepTally,
    reporter: Reporter,
) -> None:
    """Write the documents of input number `part` that stay to `sink`, as gpt2.document/1; tally the others.

    lines: what signatures were made of, whose 128-bit BLAKE2b is `expected_blake2b`; `name` is for messages.
    Raises BadInput when they are others, Interrupted when asked to stop.
    """
    digest = hashlib.blake2b(digest_size=16)
    for number, line in enumerate(lines):
        digest.update(line)
        digest.update(b"\n")
        duplicate = drops.take(part, number)
        if duplicate is None and is_own_form(line):
            tally.read += 1
            tally.kept += 1
            sink.write_line(line + b"\n")
        else:
            _write_or_drop(line, f"{name} line {number + 1}", duplicate, sink, tally)
        if not tally.read % 1024:
            reporter.progress(tally.read, None, "documents read again", kept=f"{tally.kept:,}")
            if reporter.stopping():
                raise Interrupted("stopped while the survivors were written; run the same command again")
    if digest.hexdigest() != expected_blake2b or drops.left(part):
        raise BadInput(f"{name} is not what the signatures were made of: it changed since; run it again")


def _write_or_drop(line: bytes, where: str, duplicate: Duplicate | None, sink: RecordWriter, tally: StepTally) -> None:
    document = document_of(line, where)
    if isinstance(document, str):
        return
    tally.read += 1
    if duplicate is None:
        tally.kept += 1
        sink.write(KIND, document)
        return
    tally.drop(str(document.get("url") or document["id"]), duplicate.reason, id=document["id"],
               survivor=duplicate.survivor, similarity=round(duplicate.similarity, 4))
