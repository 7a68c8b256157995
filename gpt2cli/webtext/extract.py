"""Step 3: pages to their main text as documents, in link order: of a crawl, of WARC files, or given as HTML."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gpt2cli.errors import BadInput, Gpt2Error, Interrupted
from gpt2cli.records.jsonl import Record
from gpt2cli.reporter import Reporter
from gpt2cli.webtext.page import Page, PageBody
from gpt2cli.webtext.page_inputs import pages_of_records
from gpt2cli.webtext.page_pool import Limits, PagePool
from gpt2cli.webtext.tally import StepTally

MAX_PAGE = 16 << 20
"""Bytes of HTML beyond which a page is dropped as too_big; Common Crawl keeps at most 5 MiB of one."""


@dataclass(frozen=True)
class ExtractConfig:
    """How to extract. `min_chars` counts characters of text; `workers` are processes, None: one per CPU.

    work: where the WARC files of page records lie. extractor: one of webtext.page_text.EXTRACTORS.
    """

    work: Path
    workers: int | None = None
    min_chars: int = 200
    extractor: str = "trafilatura"
    limits: Limits = field(default_factory=Limits)


def extract_documents(
    records: Iterable[Record], config: ExtractConfig, tally: StepTally, reporter: Reporter
) -> Iterator[Record]:
    """Yield gpt2.document/1 fields for the gpt2.page/1 fields (an iterator will do) that have text enough, in order.

    Raises BadInput when the WARC lacks a page that the records promise, Interrupted when the reporter says stop.
    """
    yield from extract_pages(pages_of_records(records, config.work, MAX_PAGE), config, tally, reporter)


def extract_pages(
    pages: Iterable[Page], config: ExtractConfig, tally: StepTally, reporter: Reporter
) -> Iterator[Record]:
    """Yield gpt2.document/1 fields for the pages (page_inputs.py) that have text enough, in their order.

    What is yielded, and what goes to the tally, does not depend on the number of workers. Raises what reading the pages
    raises, and Interrupted when the reporter says stop.
    """
    from gpt2cli.webtext.page_text import extractor_version

    extractor = extractor_version(config.extractor)

    def poll() -> None:
        reporter.progress(tally.read, None, "pages extracted", kept=f"{tally.kept:,}")
        if reporter.stopping():
            raise Interrupted("stopped while extracting; the pages are safe, the same command extracts them again")

    with contextlib.closing(PagePool(config.extractor, config.workers or os.cpu_count() or 1, config.limits)) as pool:
        for page, result in pool.map(pages, poll):
            tally.read += 1
            if result.error is not None:
                tally.drop(page.what, result.error, result.detail)
            elif len(result.text) < config.min_chars:
                tally.drop(page.what, f"text under {config.min_chars} characters")
            else:
                tally.kept += 1
                yield _document(page.fields, result.text, extractor)


def extract_page(page: PageBody, config: ExtractConfig, name: str) -> str:
    """Return the text of one page; `name` is for messages. Raises Gpt2Error when there is none, and says why."""
    with contextlib.closing(PagePool(config.extractor, 1, config.limits)) as pool:
        ((_, result),) = pool.map([Page({}, name, lambda: page)], lambda: None)
    if result.error is not None:
        raise Gpt2Error(f"{name}: {result.error}")
    if not result.text:
        raise BadInput(f"{name} is a page without text of its own")
    return result.text


def _document(fields: Record, text: str, extractor: str) -> Record:
    return {
        "id": hashlib.sha256(text.encode()).hexdigest(),
        "url": fields["url"],
        "text": text,
        "karma": fields["karma"],
        "subreddit": fields["subreddit"],
        "created_utc": fields["created_utc"],
        "language": None,  # nobody has looked yet, and a guess would be taken for knowledge
        "extractor": extractor,
    }
