"""What reads the web's files for the table of fuzz_targets.py: pages, archives, links, and what a crawl keeps."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

from gpt2cli.records import jsonl
from gpt2cli.reporter import Silent
from gpt2cli.webtext import (
    address_guard,
    archived_page,
    body,
    charset,
    crawl_state,
    dump_container,
    judge_links,
    links,
    merge_shares,
    outcomes,
    page_inputs,
    page_text,
    robots,
    signature_file,
    submissions,
    urls,
    warc_reader,
)
from gpt2cli.webtext.page import NoPage, PageBody
from gpt2cli.webtext.tally import StepTally

PAGE_BYTES = 1 << 20


def use(items: Iterable[Any]) -> None:
    """Go through an iterable to its end, keeping nothing."""
    deque(items, maxlen=0)


def robots_txt(data: bytes) -> None:
    """Judge two URLs."""
    rules = robots.parse_rules(robots.relevant_lines(data))
    for url in ("http://www.example.com/", "http://www.example.com/private/a.pdf?x=%C3"):
        rules.refuses(url)


def url(data: bytes) -> None:
    """Take a URL through the gate: what passes has a host, an origin and a key."""
    with contextlib.suppress(urls.UrlFault):
        clean = urls.clean_url(data.decode("utf-8", "surrogateescape"))
        assert urls.clean_url(clean) == clean and urls.host_of(clean) and urls.origin_of(clean)
        urls.host_of_key(urls.url_key(clean)).encode()


def address(data: bytes) -> None:
    """Ask for an address, and for the network of that name."""
    text = data.decode("utf-8", "surrogateescape").partition("\n")[0][:100]
    address_guard.AddressGuard().refusal(text, 80)
    address_guard.parse_network(text)


def page(extractor: str, data: bytes) -> None:
    """Decode a page in a declared charset, and extract its text as the worker does."""
    label = charset.header_charset(data[:60].decode("latin-1"))
    charset.decode_page(data, label)
    page_text.page_text(extractor)(data, label)


def received(data: bytes) -> None:
    """Decode a body in each coding."""
    for coding in (None, "gzip", "deflate", data[:8].decode("latin-1")):
        with contextlib.suppress(outcomes.FetchFault):
            decoder = body.BodyDecoder(coding, PAGE_BYTES)
            decoder.feed(data)
            while decoder.hungry:
                decoder.step(1 << 16)
            decoder.finish()


def message(data: bytes) -> None:
    """Take bytes for the HTTP message in a WARC record."""
    with contextlib.suppress(NoPage):
        fields = {"warc-type": "response"}
        archived_page.page_of(warc_reader.WarcRecord(fields, data, 0), PAGE_BYTES)


def archive(path: Path) -> None:
    """Read pages as extract does."""
    for found in _opened_pages(path):
        with contextlib.suppress(NoPage):
            found.load()


def _opened_pages(path: Path) -> Iterator[Any]:
    with page_inputs.open_pages([path], path.parent, PAGE_BYTES, Silent()) as pages:
        yield from cast(Iterator[Any], () if isinstance(pages, PageBody) else pages)


def dump(path: Path) -> None:
    """Select links."""
    with dump_container.open_dump(path) as stream:
        while stream.read(1 << 16):
            pass
    use(links.link_records([path], judge_links.LinkConfig(), StepTally("links"), Silent()))


def post(data: bytes) -> None:
    """Read each line as a candidate."""
    for line in data.split(b"\n"):
        with contextlib.suppress(submissions.Malformed):
            submissions.parse_candidate(line)


def link_lines(path: Path) -> None:
    """Read links to fetch, and merge them as shares."""
    use(map(judge_links.link_of, jsonl.read_records(path, jsonl.ReadTally(), kinds=("gpt2.link",))))
    use(merge_shares.merged_links([path], StepTally("merge"), Silent()))


def state(path: Path) -> None:
    """Open a crawl's state and go through it."""
    for beside in ("-wal", "-shm", "-journal"):
        path.with_name(path.name + beside).unlink(missing_ok=True)
    found = crawl_state.CrawlState(path)
    try:
        found.warc_bytes(), found.count("page"), found.pages([1, 2]), found.robots(1, "http://example.com")
        for host in found.hosts_after(-1, 9, 9):
            found.jobs(host.id, -1, 9)
        found.add_links(["http://example.com/new"])
    finally:
        found.close()


def signatures(path: Path) -> None:
    """Read a signature file to its end."""
    use(signature_file.open_signatures(path).blocks(4))
