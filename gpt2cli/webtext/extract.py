"""Step 3: pages in the WARC -> their main text as documents, in link order."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gpt2cli.errors import BadInput, Interrupted
from gpt2cli.records.jsonl import Record
from gpt2cli.reporter import Reporter
from gpt2cli.webtext.charset import header_charset
from gpt2cli.webtext.journal import WARC_DIRECTORY
from gpt2cli.webtext.outcomes import OK
from gpt2cli.webtext.page_pool import PagePool
from gpt2cli.webtext.tally import StepTally
from gpt2cli.webtext.warc import read_response

WORKER_MEMORY = 2 << 30
"""Bytes of address space of one worker; trafilatura itself needs about 400 MB of it."""


@dataclass(frozen=True)
class ExtractConfig:
    """How to extract. `min_chars` counts characters of text; `page_timeout_s` is wall-clock seconds for one page."""

    work: Path
    workers: int | None = None
    page_timeout_s: float = 20.0
    min_chars: int = 200
    memory_bytes: int = WORKER_MEMORY


def extract_documents(
    pages: Iterable[Record], config: ExtractConfig, tally: StepTally, reporter: Reporter
) -> Iterator[Record]:
    """Yield gpt2.document/1 fields for the pages (gpt2.page/1 fields) that have text enough, in their order.

    Raises BadInput when the WARC lacks a page that the records promise, Interrupted when the reporter says stop.
    """
    from gpt2cli.webtext.page_text import extractor_version

    extractor = extractor_version()
    workers = config.workers or os.cpu_count() or 1

    def poll() -> None:
        reporter.progress(tally.read, None, "pages extracted", kept=f"{tally.kept:,}")
        if reporter.stopping():
            raise Interrupted("stopped while extracting; the pages are safe, the same command extracts them again")

    pool: PagePool[Record] = PagePool(workers, config.page_timeout_s, config.memory_bytes)
    with contextlib.closing(pool):
        for page, result in pool.map(_loads(pages, config, tally), poll):
            if result.error is not None:
                tally.drop(page["url"], result.error)
            elif len(result.text) < config.min_chars:
                tally.drop(page["url"], f"text under {config.min_chars} characters")
            else:
                tally.kept += 1
                yield _document(page, result.text, extractor)


def _loads(
    pages: Iterable[Record], config: ExtractConfig, tally: StepTally
) -> Iterator[tuple[Record, Callable[[], tuple[bytes, str | None]]]]:
    for page in pages:
        tally.read += 1
        if page["outcome"] != OK:
            tally.drop(page["url"], f"not fetched: {page['outcome']}")
            continue
        name, offset, length = page.get("warc"), page.get("offset"), page.get("length")
        if not isinstance(name, str) or Path(name).name != name or not isinstance(offset, int) \
                or not isinstance(length, int) or min(offset, length) < 0:
            raise BadInput(f"the page record of {page['url']} does not say where in the WARC it is")
        yield page, _loader(config.work / WARC_DIRECTORY / name, offset, length)


def _loader(path: Path, offset: int, length: int) -> Callable[[], tuple[bytes, str | None]]:
    def load() -> tuple[bytes, str | None]:
        response = read_response(path, offset, length)
        return response.body, header_charset(response.header("content-type"))

    return load


def _document(page: Record, text: str, extractor: str) -> Record:
    return {
        "id": hashlib.sha256(text.encode()).hexdigest(),
        "url": page["url"],
        "text": text,
        "karma": page.get("karma"),
        "subreddit": page.get("subreddit"),
        "created_utc": page.get("created_utc"),
        "language": None,  # nobody has looked yet, and a guess would be taken for knowledge
        "extractor": extractor,
    }
