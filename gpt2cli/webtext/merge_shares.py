"""The outputs of several shares of the hosts, each in its order, back in the one order that a single run has.

Links of `links --shard I/N` have a `position` (which input, which line of it), the same for any N, by which they are
merged and which is taken out again. Pages and documents are put in the order of the links: each share has its own in
that order, so the next one is the head of one of them, and memory holds a record for each share.
"""

from __future__ import annotations

import contextlib
import heapq
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gpt2cli.errors import BadInput, Interrupted, UsageFault
from gpt2cli.records.jsonl import ReadTally, Record, encode_record, parse_line, read_records
from gpt2cli.records.schemas import SCHEMAS, newer_format, parse_schema
from gpt2cli.records.streams import display_name
from gpt2cli.reporter import Reporter
from gpt2cli.webtext.document_lines import input_lines
from gpt2cli.webtext.tally import StepTally

Paths = Sequence[str | os.PathLike[str]]
MOST_SHARES = 1000
"""Files that are merged at once; each is open."""
_POLL = 1024
_STOPPED = "stopped while shares were merged; run the same command again"


@dataclass
class _Head:
    """The next record of a share: its line, fields, and the rest of the file."""

    name: str
    number: int
    line: bytes
    record: Record
    rest: Iterator[tuple[int, bytes]]


def merged_links(paths: Paths, tally: StepTally, reporter: Reporter) -> Iterator[bytes]:
    """Yield the gpt2.link/1 lines of all shares in the order of one run, as that run writes them.

    Raises BadInput for links without a position, out of order, or twice; UsageFault for more than 1,000 files.
    """
    with contextlib.closing(_Shares(paths, ("gpt2.link",), tally, reporter)) as shares:
        queue = [(_position(head), at) for at, head in enumerate(shares.heads) if head is not None]
        heapq.heapify(queue)
        last: tuple[int, int] | None = None
        while queue:
            position, at = queue[0]
            head = shares.heads[at]
            assert head is not None
            if last is not None and position <= last:
                raise BadInput(f"{head.name} line {head.number}: a link at position {list(position)} stands behind one "
                               f"at {list(last)}; give every share once, of the same inputs in the same order")
            last = position
            yield _without_position(head)
            after = shares.advance(at)
            if after is None:
                heapq.heappop(queue)
            else:
                heapq.heapreplace(queue, (_position(after), at))


def in_link_order(paths: Paths, order: str | os.PathLike[str], tally: StepTally, reporter: Reporter) -> Iterator[bytes]:
    """Yield the gpt2.page/1 or gpt2.document/1 lines of all shares in the order of the links in `order`.

    A link may have no document, but has a page. Raises BadInput for a record that is of no link or not in their
    order, and for a link without its page (a share is missing); UsageFault for more than 1,000 files.
    """
    with contextlib.closing(_Shares(paths, ("gpt2.page", "gpt2.document"), tally, reporter)) as shares:
        heads = {head.record.get("url"): at for at, head in enumerate(shares.heads) if head is not None}
        for link in _order(order, reporter):
            at = heads.pop(link["url"], None)
            if at is None:
                if shares.pages:
                    raise BadInput(f"no share has a page of {link['url'][:200]}, the next link of "
                                   f"{display_name(order)}; give the pages of all shares")
                continue
            head = shares.heads[at]
            while head is not None and head.record.get("url") == link["url"]:
                yield head.line + b"\n"
                head = shares.advance(at)
            if head is not None:
                heads[head.record.get("url")] = at
        for head in shares.heads:
            if head is not None:
                raise BadInput(f"{head.name} line {head.number}: {str(head.record.get('url'))[:200]!a} is no link of "
                               f"{display_name(order)}, or not in its order")


class _Shares:
    """The heads of all files; None for one that is through. `pages`: whether they are pages, which every link has."""

    def __init__(self, paths: Paths, kinds: tuple[str, ...], tally: StepTally, reporter: Reporter) -> None:
        if len(paths) > MOST_SHARES:
            raise UsageFault(f"{len(paths):,} files are more than the {MOST_SHARES:,} that are merged at once; "
                             "merge some of them first")
        self._kinds = kinds
        self._tally = tally
        self._reporter = reporter
        self._kind: str | None = None
        self._stack = contextlib.ExitStack()
        self.heads: list[_Head | None] = []
        for path in paths:
            lines = input_lines(path, reporter)
            self._stack.callback(lines.close)  # type: ignore[attr-defined]  # a generator
            self.heads.append(self._next(display_name(path), enumerate(lines, 1)))

    @property
    def pages(self) -> bool:
        """Whether the records are pages."""
        return self._kind == "gpt2.page"

    def advance(self, at: int) -> _Head | None:
        """Take the head of file `at`, which was used, off, and return the next."""
        head = self.heads[at]
        assert head is not None
        self._tally.kept += 1
        if not self._tally.kept % _POLL:
            self._reporter.progress(self._tally.kept, None, "records merged")
            if self._reporter.stopping():
                raise Interrupted(_STOPPED)
        self.heads[at] = self._next(head.name, head.rest)
        return self.heads[at]

    def _next(self, name: str, lines: Iterator[tuple[int, bytes]]) -> _Head | None:
        for number, line in lines:
            if not line.strip():
                continue
            where = f"{name} line {number}"
            record = parse_line(line, where)
            parsed = parse_schema(record.get("schema"))
            if parsed is None or parsed[0] not in self._kinds:
                wanted = " or ".join(self._kinds)
                raise BadInput(f"{where} is no {wanted} record"
                               + ("; --order LINKS merges pages and documents" if self._kinds == ("gpt2.link",)
                                  and parsed is not None and parsed[0] in ("gpt2.page", "gpt2.document") else ""))
            if parsed[1] > SCHEMAS[parsed[0]][0]:
                raise newer_format(where, *parsed)
            if self._kind not in (None, parsed[0]):
                raise BadInput(f"{where} is a {parsed[0]} record among {self._kind} records; merge one kind at a time")
            for field in SCHEMAS[parsed[0]][1]:
                if field not in record:
                    raise BadInput(f"{where}: a {parsed[0]} record without {field}")
            if not isinstance(record.get("url"), str | None):
                raise BadInput(f"{where}: its url is no text")
            self._kind = parsed[0]
            self._tally.read += 1
            return _Head(name, number, line, record, lines)
        return None

    def close(self) -> None:
        """Close the files."""
        self._stack.close()


def _without_position(head: _Head) -> bytes:
    fields = {name: value for name, value in head.record.items() if name not in ("schema", "position")}
    try:
        return encode_record("gpt2.link", fields)
    except UnicodeEncodeError:
        raise BadInput(f"{head.name} line {head.number}: a lone surrogate, which no UTF-8 file can hold") from None


def _position(head: _Head) -> tuple[int, int]:
    value = head.record.get("position")
    if not isinstance(value, list) or len(value) != 2 or not all(type(one) is int for one in value):
        raise BadInput(f"{head.name} line {head.number}: a link without a position; those of webtext-scrape links "
                       "--shard I/N have one, the others are merged by webtext-scrape links")
    return value[0], value[1]


def _order(path: str | os.PathLike[str], reporter: Reporter) -> Iterator[Record]:
    tally = ReadTally()
    for link in read_records(path, tally, kinds=("gpt2.link",)):
        if not isinstance(link["url"], str):
            raise BadInput(f"{display_name(path)}: a gpt2.link record whose url is no text")
        yield link
    for warning in tally.warnings:
        reporter.warn(warning)
