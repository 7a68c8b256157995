"""Where pages to extract come from, told by content: records of a crawl, NDJSON with html, WARC files, or one page."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.records.jsonl import ReadTally, Record, parse_records
from gpt2cli.records.streams import display_name, proves_its_end
from gpt2cli.reporter import Reporter
from gpt2cli.webtext.archived_page import PAGE_KINDS, page_of
from gpt2cli.webtext.dump_container import open_dump
from gpt2cli.webtext.outcomes import OK
from gpt2cli.webtext.page import NoPage, Page, PageBody
from gpt2cli.webtext.warc_files import WARC_DIRECTORY
from gpt2cli.webtext.warc_reader import MAX_HEADER, WarcRecord, read_warc, record_at

_SNIFFED = 512
_BOM = b"\xef\xbb\xbf"


def pages_of_records(pages: Iterable[Record], work: Path, max_bytes: int) -> Iterator[Page]:
    """Yield the pages of gpt2.page/1 fields, whose WARC files lie under `work`, in their order.

    Raises BadInput for a page that is said to be there without saying where.
    """
    for record in pages:
        url = record["url"]
        if record["outcome"] != OK:
            yield _missing(record, f"not fetched: {record['outcome']}")
            continue
        name, offset, length = record.get("warc"), record.get("offset"), record.get("length")
        if not isinstance(name, str) or Path(name).name != name or not isinstance(offset, int) \
                or not isinstance(length, int) or min(offset, length) < 0:
            raise BadInput(f"the page record of {url} does not say where in the WARC it is")
        yield Page(_carried(record, url), url, _archived(work / WARC_DIRECTORY / name, offset, length, max_bytes))


@contextlib.contextmanager
def open_pages(
    paths: Sequence[str | os.PathLike[str]], work: Path, max_bytes: int, reporter: Reporter
) -> Iterator[Iterator[Page] | PageBody]:
    """Yield the pages of all inputs (`-`: stdin) in order; or, when the one input is itself a page, that page.

    Raises BadInput for an input that is malformed or cut short, UsageFault for a page among several inputs.
    """
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(open_dump(paths[0]))
        if _kind(first) == "page":
            if len(paths) > 1:
                raise _several(paths[0])
            yield PageBody(_whole_page(first, display_name(paths[0]), max_bytes))
            return
        sources = _Sources(work, max_bytes, reporter)
        rest = (sources.named(path) for path in paths[1:])
        yield itertools.chain(sources.opened(first, paths[0]), itertools.chain.from_iterable(rest))


class _Sources:
    """Reads inputs one after another."""

    def __init__(self, work: Path, max_bytes: int, reporter: Reporter) -> None:
        self._work = work
        self._max_bytes = max_bytes
        self._reporter = reporter

    def named(self, path: str | os.PathLike[str]) -> Iterator[Page]:
        with open_dump(path) as stream:
            yield from self.opened(stream, path)

    def opened(self, stream: BinaryIO, path: str | os.PathLike[str]) -> Iterator[Page]:
        kind = _kind(stream)
        if kind == "page":
            raise _several(path)
        if kind == "warc":
            yield from self._archive(stream, display_name(path))
            return
        tally, name = ReadTally(), display_name(path)
        records = parse_records(stream, name, tally, kinds=("gpt2.page",), foreign=True,
                                expect_end=str(path) == "-" and not proves_its_end(stream))
        for number, record in enumerate(records, 1):
            where = f"{name} record {number}"
            if "schema" in record:
                _require_text(record, where)
                yield from pages_of_records((record,), self._work, self._max_bytes)
            else:
                yield _given(record, where, self._max_bytes)
        for warning in tally.warnings:
            self._reporter.warn(warning)
        if tally.skipped:
            counts = ", ".join(f"{count:,} {reason}" for reason, count in sorted(tally.skipped.items()))
            self._reporter.note(f"{name}: skipped {counts}")

    def _archive(self, stream: BinaryIO, name: str) -> Iterator[Page]:
        others: dict[str, int] = {}
        for record in read_warc(stream, name, self._max_bytes + MAX_HEADER, PAGE_KINDS):
            if record.kind not in PAGE_KINDS:
                others[record.kind or "unnamed"] = others.get(record.kind or "unnamed", 0) + 1
                continue
            url = record.fields.get("warc-target-uri", "").strip("<>") or None
            what = url or f"{name} at byte {record.offset} of its unpacked content"
            yield Page(_carried({}, url), what, _parsed(record, self._max_bytes), len(record.block or b""))
        if others:
            counts = ", ".join(f"{count:,} {kind}" for kind, count in sorted(others.items()))
            self._reporter.note(f"{name}: no pages are the records {counts}")


def _kind(stream: BinaryIO) -> str:
    """Return "warc", "records" or "page" by the first bytes; what is empty has no records."""
    start = stream.peek(_SNIFFED)[:_SNIFFED].removeprefix(_BOM).lstrip()  # type: ignore[attr-defined]  # buffered
    if start.startswith(b"WARC/") or (start and b"WARC/".startswith(start)):
        return "warc"
    return "records" if not start or start.startswith(b"{") else "page"


def _several(path: str | os.PathLike[str]) -> UsageFault:
    return UsageFault(f"{display_name(path)} is neither WARC nor JSON lines; an HTML page is extracted alone, so put "
                      "several into JSON lines with url and html")


def _whole_page(stream: BinaryIO, name: str, max_bytes: int) -> bytes:
    body = stream.read(max_bytes + 1)
    if len(body) > max_bytes:
        raise BadInput(f"{name} is a page of more than {max_bytes} bytes")
    return body


def _given(record: Record, where: str, max_bytes: int) -> Page:
    html, url = record.get("html"), record.get("url")
    if not isinstance(html, str):
        raise BadInput(f"{where} is no gpt2.page record and has no html that is text")
    if url is not None and not isinstance(url, str):
        raise BadInput(f"{where}: its url is no text")
    fields = _carried(record, url)
    _require_text(fields, where)

    def load() -> PageBody:
        body = html.encode("utf-8", "replace")
        if len(body) > max_bytes:
            raise NoPage("too_big", f"more than {max_bytes} bytes")
        return PageBody(body, "utf-8")

    return Page(fields, url or where, load, len(html))


def _missing(record: Record, reason: str) -> Page:
    def load() -> PageBody:
        raise NoPage(reason)

    return Page(_carried(record, record["url"]), record["url"], load)


def _archived(path: Path, offset: int, length: int, max_bytes: int) -> Callable[[], PageBody]:
    def load() -> PageBody:
        record = record_at(path, offset, length, max_bytes + MAX_HEADER)
        if record.kind not in PAGE_KINDS:
            raise BadInput(f"{path} at byte {offset}: a WARC record of {record.kind or 'no kind'}, not of a page")
        return page_of(record, max_bytes)

    return load


def _parsed(record: WarcRecord, max_bytes: int) -> Callable[[], PageBody]:
    return lambda: page_of(record, max_bytes)


def _carried(record: Record, url: str | None) -> Record:
    return {"url": url, **{name: record.get(name) for name in ("karma", "subreddit", "created_utc")}}


def _require_text(record: Record, where: str) -> None:
    try:
        for value in record.values():
            if isinstance(value, str) and not value.isascii():
                value.encode()
            elif isinstance(value, list | dict):
                json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise BadInput(f"{where}: a lone surrogate, which no UTF-8 file can hold") from None
