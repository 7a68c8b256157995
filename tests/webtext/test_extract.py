from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import lxml.html
import pytest
from webtext.local_site import PROSE, article

from gpt2cli.errors import BadInput, Gpt2Error, Interrupted
from gpt2cli.records.jsonl import RecordWriter
from gpt2cli.reporter import Silent
from gpt2cli.webtext.extract import ExtractConfig, extract_documents
from gpt2cli.webtext.page import Page, PageBody
from gpt2cli.webtext.page_pool import Limits, PagePool
from gpt2cli.webtext.page_text import EXTRACTORS, page_text
from gpt2cli.webtext.page_worker import frame
from gpt2cli.webtext.tally import StepTally
from gpt2cli.webtext.warc import Response
from gpt2cli.webtext.warc_files import WarcFiles

MANY_ATTRIBUTES = b"<html><body><p " + b" ".join(b"a%d=1" % n for n in range(200_000)) + b">x</p></body></html>"
NESTED = b"<html><body>" + b"<div>" * 20_000 + b"x" + b"</div>" * 20_000 + b"</body></html>"


def pages_of(work: Path, bodies: list[bytes], content_type: str = "text/html; charset=utf-8",
             compression: str = "zst") -> list[dict[str, Any]]:
    files = WarcFiles(work / "warc", "test", {}, compression)
    pages = []
    for number, body in enumerate(bodies):
        url = f"http://127.0.0.1/{number}"
        headers = (("Content-Type", content_type),)
        files.next_file()
        place = files.append(Response(url, "2017-10-01T00:00:00Z", 200, "OK", headers, body))
        pages.append({"url": url, "outcome": "ok", "karma": number, "subreddit": "books", "created_utc": 1_507_000_000,
                      **dict(zip(("warc", "offset", "length"), place, strict=True))})
    files.close()
    return pages


def extract(work: Path, pages: list[dict[str, Any]], **settings: Any) -> tuple[list[dict[str, Any]], StepTally]:
    tally = StepTally("extract")
    config = ExtractConfig(work, **{"workers": 2, **settings})
    documents = list(extract_documents(pages, config, tally, Silent()))
    assert tally.read == len(pages) == tally.kept + sum(tally.dropped.values())
    return documents, tally


def test_text_comes_in_paragraphs_and_link_order(tmp_path: Path) -> None:
    names = [f"page {number}" for number in range(30)]
    documents, _ = extract(tmp_path, pages_of(tmp_path, [article(name) for name in names]))
    assert [document["karma"] for document in documents] == list(range(30))
    for name, document in zip(names, documents, strict=True):
        expected = [PROSE.format(name=f"{name} {part}").strip() for part in ("north", "south", "east")]
        assert [line for line in document["text"].split("\n") if line != name] == expected
        assert document["extractor"].startswith("trafilatura/")
        assert document["language"] is None
        assert set(document) == {"id", "url", "text", "karma", "subreddit", "created_utc", "language", "extractor"}


def test_charset_of_the_header_is_used(tmp_path: Path) -> None:
    body = article("Leuchtturmwärter auf Föhr").decode().encode("latin-1")
    documents, _ = extract(tmp_path, pages_of(tmp_path, [body], "text/html; charset=iso-8859-1"))
    assert "Leuchtturmwärter auf Föhr" in documents[0]["text"]


def test_short_and_empty_pages_are_dropped(tmp_path: Path) -> None:
    bodies = [b"", b"<html><body><p>Short.</p></body></html>", b"\x00\x01\x02", article("long")]
    pages = pages_of(tmp_path, bodies)
    documents, tally = extract(tmp_path, pages)
    assert len(documents) == 1
    assert tally.dropped == {"text under 200 characters": 3}
    assert len(extract(tmp_path, pages, min_chars=5)[0]) == 2


@pytest.mark.slow
@pytest.mark.parametrize("extractor", ["trafilatura", "resiliparse"])
def test_a_hanging_page_costs_its_limit_and_no_neighbour(tmp_path: Path, extractor: str) -> None:
    pages = pages_of(tmp_path, [article("one"), MANY_ATTRIBUTES, article("two"), NESTED, article("three")])
    extract(tmp_path, pages[:1])  # imports are warm on disk
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    documents, tally = extract(tmp_path, pages, limits=Limits(1.0), workers=1, extractor=extractor)
    assert [document["karma"] for document in documents] == [0, 2, 4]
    # trafilatura finds nothing in what is nested so deeply, in time; resiliparse would take minutes
    assert tally.dropped in ({"timed out": 1, "text under 200 characters": 1}, {"timed out": 2})
    # three starts of a worker and the limits; the pages themselves would take minutes
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 30


@pytest.mark.slow
def test_a_page_that_eats_memory_is_given_up(tmp_path: Path) -> None:
    huge = b"<html><body>" + b"<p><b>x</b></p>" * 300_000 + b"</body></html>"
    pages = pages_of(tmp_path, [article("one"), huge, article("two")])
    documents, tally = extract(tmp_path, pages, limits=Limits(60, 100 << 20))
    assert [document["karma"] for document in documents] == [0, 2]
    assert tally.dropped in ({"out of memory": 1}, {"extractor died": 1})


def test_workers_are_killed_when_nobody_wants_the_rest(tmp_path: Path) -> None:
    pages = pages_of(tmp_path, [article(str(number)) for number in range(20)] + [MANY_ATTRIBUTES] * 3)
    config = ExtractConfig(tmp_path, workers=2, limits=Limits(600))
    documents = extract_documents(pages, config, StepTally("extract"), Silent())
    next(documents)
    began = time.monotonic()
    documents.close()
    assert time.monotonic() - began < 60  # each of the last three pages has ten minutes
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    if children.exists():
        for child in children.read_text().split():
            assert b"page_worker" not in Path(f"/proc/{child}/cmdline").read_bytes()


@pytest.mark.slow
def test_a_hanging_worker_does_not_outlive_a_killed_parent() -> None:
    words = ("gpt2cli.webtext.page_worker", "trafilatura", str(1 << 30), "1", str(1 << 30))
    with subprocess.Popen([sys.executable, "-m", *words], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as worker:
        assert worker.stdin is not None
        worker.stdin.write(frame(b"") + frame(MANY_ATTRIBUTES))
        worker.stdin.close()
        assert worker.wait(timeout=60) == -signal.SIGPROF


def test_stopping(tmp_path: Path) -> None:
    class Stopping(Silent):
        def stopping(self) -> bool:
            return True

    with pytest.raises(Interrupted):
        list(extract_documents(pages_of(tmp_path, [article("x")]), ExtractConfig(tmp_path), StepTally("e"), Stopping()))


def test_a_crashing_worker_is_replaced() -> None:
    def page(name: str) -> Page:
        return Page({}, name, lambda: PageBody(article(name)))

    pool = PagePool("trafilatura", 1, Limits())
    try:
        assert [result.error for _, result in pool.map([page("a")], lambda: None)] == [None]
        for worker in pool._alive:
            worker.kill()
        died, well = (result for _, result in pool.map([page("b"), page("c")], lambda: None))
        assert died.error == "extractor died"
        assert well.error is None and "c north" in well.text
    finally:
        pool.close()


def test_a_worker_that_has_grown_is_replaced() -> None:
    pool = PagePool("resiliparse", 1, Limits(max_resident=1))
    try:
        pages = [Page({}, name, lambda name=name: PageBody(article(name))) for name in ("a", "b", "c")]  # type: ignore[misc]
        for page, result in pool.map(pages, lambda: None):
            assert result.error is None and f"{page.what} north" in result.text
        assert not pool._alive
    finally:
        pool.close()


def test_a_worker_that_does_not_start_is_told_of_with_its_words() -> None:
    pool = PagePool("no-such-extractor", 1, Limits())
    try:
        with pytest.raises(Gpt2Error, match="does not start: ValueError: no-such-extractor"):
            list(pool.map([Page({}, "a", lambda: PageBody(b"x"))], lambda: None))
    finally:
        pool.close()


@pytest.mark.parametrize("change", [{"warc": "../x"}, {"warc": None}, {"offset": -1}, {"length": "9"}, {"offset": 7}])
def test_records_that_point_nowhere_are_bad_input(tmp_path: Path, change: dict[str, Any]) -> None:
    pages = pages_of(tmp_path, [article("x")])
    with pytest.raises(BadInput):
        extract(tmp_path, [{**pages[0], **change}])


def test_failed_pages_are_passed_over_with_their_outcome(tmp_path: Path) -> None:
    import io

    stream = io.BytesIO()
    tally = StepTally("extract", RecordWriter(stream))
    assert list(extract_documents([{"url": "http://127.0.0.1/", "outcome": "timeout"}], ExtractConfig(tmp_path), tally,
                                  Silent())) == []
    assert json.loads(stream.getvalue()) == {"schema": "gpt2.reject/1", "what": "http://127.0.0.1/",
                                             "reason": "not fetched: timeout", "step": "extract"}


def test_preformatted_text_in_a_layout_table_keeps_its_lines() -> None:
    poem = "\n".join(f"Line {number} of a long poem about the sea and its lighthouses." for number in range(12))
    html = f"<html><body><table><tr><td>&nbsp;</td><td><pre>{poem}</pre></td></tr></table></body></html>"
    text_of = page_text("trafilatura")
    assert poem in text_of(html.encode(), None)
    data = "".join(f"<tr><td>boat {n}</td><td>{n * 7} herrings</td></tr>" for n in range(20))
    table = text_of(f"<html><body><p>{PROSE * 3}</p><table>{data}</table></body></html>".encode(), None)
    assert "boat 3 | 21 herrings" in table


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_a_text_does_not_depend_on_the_pages_before_it(extractor: str) -> None:
    text_of = page_text(extractor)
    first = text_of(article("same"), None)
    assert "same north" in first
    for _ in range(5):
        assert text_of(article("same"), None) == first


def test_elements_have_the_classes_that_lxml_gives_them() -> None:
    """trafilatura's parsers get another table of classes from us: only its speed differs."""
    from trafilatura.utils import HTML_PARSER

    tags = ("form", "fieldset", "label", "input", "select", "textarea", "P", "svg", "my-tag", "o:p", "option", "pre")
    html = "<html><body><!-- c --><?pi x?>" + "".join(f"<{tag}>x</{tag}>" for tag in tags) + "</body></html>"
    page_text("trafilatura")
    plain = lxml.html.HTMLParser()
    plain.set_element_class_lookup(lxml.html.HtmlElementClassLookup())
    theirs = [type(one) for one in lxml.html.document_fromstring(html, parser=plain).iter()]
    assert [type(one) for one in lxml.html.document_fromstring(html).iter()] == theirs and len(set(theirs)) > 6
    kept = [kind for kind in theirs if kind not in (lxml.html.HtmlComment, lxml.html.HtmlProcessingInstruction)]
    assert [type(one) for one in lxml.html.document_fromstring(html, parser=HTML_PARSER).iter()] == kept
