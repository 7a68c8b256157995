"""webtext-scrape: its steps, each by itself from records to records. All of them in a row are whole_crawl.py's."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from gpt2cli.errors import BadInput
from gpt2cli.records.jsonl import ReadTally, Record, RecordWriter, read_records
from gpt2cli.reporter import Reporter
from gpt2cli.webtext.shards import EVERYTHING, Share
from gpt2cli.webtext.tally import StepTally

if TYPE_CHECKING:
    # What a step loads (aiohttp, CLD2, a tokenizer) is loaded when it runs: the others begin the sooner.
    from gpt2cli.webtext.dedup import DedupConfig
    from gpt2cli.webtext.extract import ExtractConfig
    from gpt2cli.webtext.fetch import FetchConfig
    from gpt2cli.webtext.judge_links import Link, LinkConfig
    from gpt2cli.webtext.rule_set import RuleSet

Paths = Sequence[str | os.PathLike[str]]


class Steps:
    """The steps with one reporter and one rejects file (gpt2.reject/1 for everything dropped).

    Each keeps a StepTally in `tallies` and says its line when it is through. Raises what the step raises; see links.py,
    fetch.py, extract.py, filter_documents.py, dedup.py.
    """

    def __init__(self, rejects: RecordWriter | None, reporter: Reporter) -> None:
        self.rejects = rejects
        self._reporter = reporter
        self.tallies: list[StepTally] = []

    def link_lines(self, paths: Paths, config: LinkConfig, jobs: int) -> Iterator[bytes]:
        """Yield the same links as lines of gpt2.link/1."""
        from gpt2cli.webtext.links import link_records

        tally = self.new_tally("links")
        yield from link_records(paths, config, tally, self._reporter, jobs)
        self._reporter.note(tally.line())

    def fetch(self, links: Iterable[Link], config: FetchConfig) -> Iterator[Record]:
        """Yield gpt2.page/1 fields for the links."""
        from gpt2cli.webtext.fetch import fetch_pages

        tally = self.new_tally("fetch")
        yield from fetch_pages(links, config, tally, self._reporter)
        self._reporter.note(tally.line())

    def extract(self, pages: Iterator[Record], config: ExtractConfig) -> Iterator[Record]:
        """Yield gpt2.document/1 fields for the pages."""
        from gpt2cli.webtext.extract import extract_documents

        tally = self.new_tally("extract")
        yield from extract_documents(pages, config, tally, self._reporter)
        self._reporter.note(tally.line())

    def filter_lines(self, paths: Paths, rules: RuleSet, jobs: int) -> Iterator[bytes]:
        """Yield the lines of gpt2.document/1 in `paths`, or in other people's JSONL, that pass the rules."""
        from gpt2cli.webtext.filter_documents import filtered_lines

        tally = self.new_tally("filter")
        yield from filtered_lines(paths, rules, tally, self._reporter, jobs)
        self._reporter.note(tally.line())

    def dedup(self, inputs: Paths | Iterator[bytes], sink: RecordWriter, config: DedupConfig) -> None:
        """Write the documents that are no duplicates: of files, or of lines of gpt2.document/1."""
        from gpt2cli.webtext.dedup import dedup

        dedup(inputs, sink, self.new_tally("dedup"), config, self._reporter)

    def merged(self, paths: Paths, order: str | None) -> Iterator[bytes]:
        """Yield the lines of all shares: of links by their position, else in the order of the links in `order`."""
        from gpt2cli.webtext.merge_shares import in_link_order, merged_links

        tally = self.new_tally("merge")
        yield from (merged_links(paths, tally, self._reporter) if order is None
                    else in_link_order(paths, order, tally, self._reporter))
        self._reporter.note(tally.line())

    def records(self, paths: Paths, kind: str) -> Iterator[Record]:
        """Yield the records of `kind` in `paths`, without their schema field."""
        for path in paths:
            tally, begun = ReadTally(), False
            try:
                for record in read_records(path, tally, kinds=(kind,)):
                    begun = True
                    _require_text(record, str(path))
                    yield {name: value for name, value in record.items() if name != "schema"}
            except BadInput as error:
                if begun:
                    raise
                raise BadInput(f"{error}; what is read here are {kind} records, which the step before writes") from None
            for warning in tally.warnings:
                self._reporter.warn(warning)
            if tally.skipped:
                counts = ", ".join(f"{count:,} {reason}" for reason, count in sorted(tally.skipped.items()))
                self._reporter.note(f"{path}: skipped {counts}")

    def read_links(self, paths: Paths, share: Share = EVERYTHING) -> Iterator[Link]:
        """Yield the links of gpt2.link/1 records that are in a share of the hosts."""
        from gpt2cli.webtext.judge_links import links_of_share

        yield from links_of_share(self.records(paths, "gpt2.link"), share)

    def new_tally(self, step: str) -> StepTally:
        """Return the tally of a step that begins."""
        tally = StepTally(step, self.rejects)
        self.tallies.append(tally)
        return tally


def write_all(sink: RecordWriter, kind: str, records: Iterator[Record]) -> None:
    """Write every record (fields) as one of `kind`; the generator is closed even when the sink fails."""
    with contextlib.closing(records):  # type: ignore[type-var]  # generators all
        for fields in records:
            sink.write(kind, fields)


def write_lines(sink: RecordWriter, lines: Iterator[bytes]) -> None:
    """Write records that are encoded already; the generator is closed even when the sink fails."""
    with contextlib.closing(lines):  # type: ignore[type-var]  # generators all
        for line in lines:
            sink.write_line(line)


def _require_text(record: Record, name: str) -> None:
    try:
        for value in record.values():
            if isinstance(value, str) and not value.isascii():
                value.encode()
    except UnicodeEncodeError:
        raise BadInput(f"{name}: a record with a lone surrogate, which no UTF-8 file can hold") from None
