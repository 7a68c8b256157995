"""webtext-scrape: one step as a filter, or all of them in a row."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from gpt2cli.errors import BadInput
from gpt2cli.records.jsonl import ReadTally, Record, RecordWriter, read_records
from gpt2cli.reporter import Reporter
from gpt2cli.webtext.dedup import unique_documents
from gpt2cli.webtext.extract import ExtractConfig, extract_documents
from gpt2cli.webtext.fetch import FetchConfig, fetch_pages
from gpt2cli.webtext.links import Link, LinkConfig, select_links
from gpt2cli.webtext.tally import StepTally
from gpt2cli.webtext.urls import UrlFault, clean_url

STEPS = ("links", "fetch", "extract", "dedup")
Paths = Sequence[str | os.PathLike[str]]


@dataclass(frozen=True)
class ScrapeConfig:
    """The configuration of every step."""

    links: LinkConfig
    fetch: FetchConfig
    extract: ExtractConfig


@dataclass(frozen=True)
class ScrapeSummary:
    """What each step read, kept and dropped, in the order of the steps that ran."""

    steps: tuple[StepTally, ...]


def scrape(
    step: str | None,
    paths: Paths,
    sink: RecordWriter,
    rejects: RecordWriter | None,
    config: ScrapeConfig,
    reporter: Reporter,
    shield: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
) -> ScrapeSummary:
    """Run one of STEPS from its input records to `sink`, or all of them when `step` is None.

    paths: input files, `-` is stdin. links and None take dumps and URL lists, the others JSONL of the step before.
    rejects: gets gpt2.reject/1 for everything dropped.
    shield: entered once the links are read, for the part that has state to save and polls reporter.stopping().
    Raises what the steps raise; see links.py, fetch.py, extract.py.
    """
    run = _Run(config, rejects, reporter)
    if step == "links":
        run.write(sink, "gpt2.link", (link.fields() for link in run.links(paths)))
    elif step == "fetch":
        links = [_as_link(record) for record in run.records(paths, "gpt2.link")]
        with shield():
            run.write(sink, "gpt2.page", run.fetch(links))
    elif step == "extract":
        run.write(sink, "gpt2.document", run.extract(run.records(paths, "gpt2.page")))
    elif step == "dedup":
        run.write(sink, "gpt2.document", run.dedup(run.records(paths, "gpt2.document")))
    else:
        links = list(run.links(paths))
        with shield():
            fetched = (page for page in run.fetch(links) if page["outcome"] == "ok")
            run.write(sink, "gpt2.document", run.dedup(run.extract(fetched)))
    return ScrapeSummary(tuple(run.tallies))


class _Run:
    """The steps with one reporter, one rejects file, and a tally each."""

    def __init__(self, config: ScrapeConfig, rejects: RecordWriter | None, reporter: Reporter) -> None:
        self._config = config
        self._rejects = rejects
        self._reporter = reporter
        self.tallies: list[StepTally] = []

    def links(self, paths: Paths) -> Iterator[Link]:
        tally = self._tally("links")
        yield from select_links(paths, self._config.links, tally, self._reporter)
        self._reporter.note(tally.line())

    def fetch(self, links: Sequence[Link]) -> Iterator[Record]:
        tally = self._tally("fetch")
        yield from fetch_pages(links, self._config.fetch, tally, self._reporter)
        self._reporter.note(tally.line())

    def extract(self, pages: Iterator[Record]) -> Iterator[Record]:
        tally = self._tally("extract")
        yield from extract_documents(pages, self._config.extract, tally, self._reporter)
        self._reporter.note(tally.line())

    def dedup(self, documents: Iterator[Record]) -> Iterator[Record]:
        tally = self._tally("dedup")
        yield from unique_documents(documents, tally, self._reporter)
        self._reporter.note(tally.line())

    def records(self, paths: Paths, kind: str) -> Iterator[Record]:
        """Yield the records of `kind` in `paths`, without their schema field."""
        for path in paths:
            tally = ReadTally()
            for record in read_records(path, tally, kinds=(kind,)):
                _require_text(record, str(path))
                yield {name: value for name, value in record.items() if name != "schema"}
            for warning in tally.warnings:
                self._reporter.warn(warning)
            if tally.skipped:
                counts = ", ".join(f"{count:,} {reason}" for reason, count in sorted(tally.skipped.items()))
                self._reporter.note(f"{path}: skipped {counts}")

    def write(self, sink: RecordWriter, kind: str, records: Iterator[Record]) -> None:
        with contextlib.closing(records):  # type: ignore[type-var]  # generators all; closed even when the sink fails
            for fields in records:
                sink.write(kind, fields)

    def _tally(self, step: str) -> StepTally:
        tally = StepTally(step, self._rejects)
        self.tallies.append(tally)
        return tally


def _require_text(record: Record, name: str) -> None:
    try:
        for value in record.values():
            if isinstance(value, str) and not value.isascii():
                value.encode()
    except UnicodeEncodeError:
        raise BadInput(f"{name}: a record with a lone surrogate, which no UTF-8 file can hold") from None


def _as_link(record: Record) -> Link:
    url, key = record["url"], record["url_key"]
    if not isinstance(url, str) or not isinstance(key, str):
        raise BadInput("a gpt2.link record whose url or url_key is no text")
    try:
        url = clean_url(url)
    except UrlFault as error:
        raise BadInput(f"a gpt2.link record of {url[:100]!r}: {error}; make them with webtext-scrape links") from None
    return Link(url, key, record["karma"], record["subreddit"], record["created_utc"])
