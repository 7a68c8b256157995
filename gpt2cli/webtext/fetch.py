"""Step 2: links -> pages in the WARC, each URL once, politely, with a typed outcome for every one.

How it is called: fetch_pages(links, config, tally, reporter), a generator. `links` is any iterable of Link and is read
once, to its end, before the first request; nothing that grows with their number stays in memory (they lie in the
state and in a nameless file under config.work, so 45 million are no matter but of disk). It yields the gpt2.page/1
fields of every link in the links' order, each as soon as it and all before it are on disk, while the crawl goes on in a
thread of its own: a consumer that takes long (extraction) holds up no request, and a page that was yielded can be read
from its WARC at once. Closing the generator stops the crawl; what is finished stays.

Nothing here trusts a server: time, decoded bytes, redirects and addresses are bounded (exchange.py, body.py,
byte_budget.py, connector.py), and what was fetched survives kill -9 (crawl_state.py, warc_files.py).
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from gpt2cli.errors import BadInput, Interrupted
from gpt2cli.records.jsonl import Record
from gpt2cli.reporter import Reporter
from gpt2cli.webtext.crawl import Crawl
from gpt2cli.webtext.crawl_state import STATE, CrawlState
from gpt2cli.webtext.fetch_config import FetchConfig
from gpt2cli.webtext.judge_links import Link
from gpt2cli.webtext.link_spool import LinkSpool
from gpt2cli.webtext.outcomes import OK
from gpt2cli.webtext.tally import StepTally
from gpt2cli.webtext.warc_files import WARC_DIRECTORY, WarcFiles
from gpt2cli.webtext.work_lock import lock_work

__all__ = ["FetchConfig", "fetch_pages"]
_POLL_S = 0.1
_CHUNK = 500


def fetch_pages(links: Iterable[Link], config: FetchConfig, tally: StepTally, reporter: Reporter) -> Iterator[Record]:
    """Fetch what the state under `config.work` lacks, and yield the gpt2.page/1 fields of all links in their order.

    Raises Interrupted when the reporter says stop (all finished pages are safe), UsageFault while another scrape
    holds the directory, BadInput when its state is damaged, IOFailure when the disk is full.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(lock_work(config.work))
        path = config.work / STATE
        _refuse_foreign(config.work, path)
        state = stack.enter_context(contextlib.closing(CrawlState(path)))
        warc = stack.enter_context(contextlib.closing(
            WarcFiles(config.work / WARC_DIRECTORY, config.user_agent, state.warc_bytes(), config.warc)))
        spool = stack.enter_context(contextlib.closing(LinkSpool(config.work)))
        _take_in(links, config, state, spool, reporter)
        pending, done = state.count("pending"), state.count("page")
        if pending and done:
            reporter.note(f"fetch: {done:,} pages are in {config.work} already, {pending:,} are to be fetched")
        crawl = stack.enter_context(_Running(Crawl(config, state, warc), pending))
        reader = stack.enter_context(contextlib.closing(CrawlState(path, looked_through=True)))
        yield from _in_order(spool, reader, crawl, config.work, tally, reporter)


def _refuse_foreign(work: Path, state: Path) -> None:
    if not state.exists() and (work / "pages.jsonl").exists():
        raise BadInput(f"{work} holds the crawl of an older gpt2 (pages.jsonl); give a new --work directory")


def _take_in(links: Iterable[Link], config: FetchConfig, state: CrawlState, spool: LinkSpool, reporter: Reporter
             ) -> None:
    stream = iter(links)
    while chunk := list(itertools.islice(stream, 10 * _CHUNK)):
        numbers = state.add_links([link.url for link in chunk], frozenset(config.again))
        for number, link in zip(numbers, chunk, strict=True):
            spool.add(number, link.fields())
        reporter.progress(spool.count, None, "links", step="reading")
        if reporter.stopping():
            raise Interrupted(f"stopped while reading links; what is in {config.work} is safe")


class _Running:
    """A crawl in a thread of its own, for the length of a block; not begun when nothing is pending."""

    def __init__(self, crawl: Crawl, pending: int) -> None:
        self._crawl = crawl
        self.pending = pending
        self._error: BaseException | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="crawl")

    def __enter__(self) -> _Running:
        if self.pending:
            self._thread.start()
        else:
            self._over.set()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._thread.ident is not None:
            self._crawl.stop()
            self._thread.join()

    def wait(self, seconds: float) -> bool:
        """Wait for the crawl's end; return whether it has come. Raises what the crawl raised."""
        over = self._over.wait(seconds)
        if self._error is not None:
            raise self._error
        return over

    def tell(self, reporter: Reporter) -> None:
        """Report what is done."""
        outcomes = self._crawl.outcomes
        reporter.progress(outcomes.total(), self.pending, "pages", ok=f"{outcomes[OK]:,}")

    def _run(self) -> None:
        try:
            self._crawl.run()
        except BaseException as error:  # raised again by wait()
            self._error = error
        self._over.set()


def _in_order(spool: LinkSpool, reader: CrawlState, crawl: _Running, work: Path, tally: StepTally, reporter: Reporter
              ) -> Iterator[Record]:
    entries = spool.read()
    while chunk := list(itertools.islice(entries, _CHUNK)):
        at = 0
        while at < len(chunk):
            over = crawl.wait(0.0)  # looked at before the pages: what a finished crawl has not brought, nobody will
            pages = reader.pages([number for number, _ in chunk[at:]])
            for number, fields in chunk[at:]:
                page = pages.get(number)
                if page is None:
                    break
                at += 1
                yield _told({**fields, **page}, tally)
            if reporter.stopping():
                raise Interrupted(f"stopped; the finished pages are safe in {work}, and the same command goes on from "
                                  "there")
            if at < len(chunk):
                if over:
                    raise BadInput(f"{work / STATE} lacks {chunk[at][1]['url'][:200]}; start with a new --work "
                                   "directory")
                crawl.wait(_POLL_S)
                crawl.tell(reporter)


def _told(page: dict[str, Any], tally: StepTally) -> Record:
    tally.read += 1
    if page["outcome"] == OK:
        tally.kept += 1
    else:
        tally.drop(page["url"], page["outcome"], page.get("detail", ""))
    return page
