"""Pages from WARC files of anyone, from JSON lines, and from standard input; what is damaged is refused or counted."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import random
import signal
import subprocess
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import brotli
import pytest
import zstandard
from fastwarc.warc import ArchiveIterator
from hypothesis import given
from hypothesis import strategies as st
from in_process import gpt2_here
from webtext.local_site import article

from gpt2cli.errors import BadInput, Gpt2Error
from gpt2cli.webtext.archived_page import page_of
from gpt2cli.webtext.page import NoPage
from gpt2cli.webtext.warc_reader import WarcRecord, read_warc, record_at

__all__ = ["gpt2_here"]
Run = Callable[..., Any]
FAST = ("webtext-scrape", "extract", "--extractor", "resiliparse", "-j", "1")


def record(kind: str, url: str, block: bytes, version: str = "1.0", **more: str) -> bytes:
    """One record as Common Crawl writes it."""
    fields = {"WARC-Type": kind, "WARC-Target-URI": url, "Content-Length": str(len(block)), **more}
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"WARC/{version}\r\n{head}\r\n".encode() + block + b"\r\n\r\n"


def http(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    named = {"Content-Type": "text/html; charset=utf-8", **{n.replace("_", "-"): v for n, v in headers.items()}}
    return f"HTTP/1.1 {status}\r\n".encode() + b"".join(f"{n}: {v}\r\n".encode() for n, v in named.items()) + \
        b"\r\n" + body


def common_crawl() -> list[bytes]:
    """Warcinfo, then request, response and metadata of each page, as Common Crawl has them."""
    records = [record("warcinfo", "", b"software: Apache Nutch\r\n")]
    for name in ("one", "two", "three"):
        url = f"https://{name}.example/"
        records += [
            record("request", url, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
            record("response", url, http(article(name), X_Crawl_Content_Encoding="gzip"),
                   Content_Type="application/http; msgtype=response"),
            record("metadata", url, b"fetchTimeMs: 12\r\n"),
        ]
    return records


PACKED = {
    "members.warc.gz": lambda records: b"".join(map(gzip.compress, records)),
    "one-member.warc.gz": lambda records: gzip.compress(b"".join(records)),
    "frames.warc.zst": lambda records: b"".join(map(zstandard.ZstdCompressor().compress, records)),
    "plain.warc": b"".join,
}


@pytest.mark.parametrize("name", PACKED)
def test_common_crawl_in_any_packing(gpt2_here: Run, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(PACKED[name](common_crawl()))
    done = gpt2_here(*FAST, path, check=True)
    documents = [json.loads(line) for line in done.stdout.splitlines()][:-1]
    assert [document["url"] for document in documents] == [f"https://{n}.example/" for n in ("one", "two", "three")]
    assert all(f"{n} south" in d["text"] for n, d in zip(("one", "two", "three"), documents, strict=True))
    assert documents[0]["extractor"].startswith("resiliparse/") and documents[0]["karma"] is None
    said = done.stderr.decode()
    assert "extract: read 3, kept 3, dropped 0" in said
    assert "no pages are the records 3 metadata, 3 request, 1 warcinfo" in said


def test_we_read_what_fastwarc_reads(tmp_path: Path) -> None:
    records = [*common_crawl(), record("resource", "https://r.example/", article("r"), Content_Type="text/html")]
    data = PACKED["members.warc.gz"](records)
    theirs = [(r.headers["WARC-Type"], r.headers.get("WARC-Target-URI"), r.reader.read())
              for r in ArchiveIterator(io.BytesIO(data), parse_http=False)]
    ours = [(r.kind, r.fields["warc-target-uri"] or None, r.block)
            for r in read_warc(io.BytesIO(gzip.decompress(data)), "x", 1 << 20)]
    assert ours == [(kind, url or None, block) for kind, url, block in theirs]


@pytest.mark.parametrize("name", PACKED)
def test_a_cut_file_is_refused_with_its_place(gpt2_here: Run, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    whole = PACKED[name](common_crawl())
    for length in (len(whole) - 9, len(whole) // 2):
        path.write_bytes(whole[:length])
        done = gpt2_here(*FAST, path, "-f", "-o", tmp_path / "out.jsonl")
        assert done.returncode == 65
        assert str(path) in done.stderr.decode() and " byte" in done.stderr.decode()
        assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(("data", "words"), [
    (b"WARC/1.0\r\nWARC-Type: response\r\n\r\nx", "no Content-Length"),
    (b"WARC/1.0\r\nContent-Length: 9999999999999999\r\n\r\nx", "cut short"),
    (b"WARC/1.0\r\nContent-Length: 1\r\n\r\nx\r\n\r\nrubbish\r\n", "no WARC record begins at byte 36"),
    (b"WARC/1.0\r\n" + b"A: b\r\n" * 20_000, "header of more than"),
    (b"WARC/1.0\r\nA: " + b"b" * 40_000, "line of more than"),
])
def test_what_is_no_warc_is_refused(gpt2_here: Run, data: bytes, words: str) -> None:
    done = gpt2_here(*FAST, input=data)
    assert done.returncode == 65 and words in done.stderr.decode()


def test_other_spellings_of_a_header_are_read() -> None:
    folded = b"\r\nWARC/0.18\nwarc-type:response\nWARC-Target-URI:\n <http://x.example/>\ncontent-length: 2\n\nab\n\n"
    (found,) = read_warc(io.BytesIO(folded), "x", 10)
    assert (found.kind, found.fields["warc-target-uri"], found.block) == ("response", "<http://x.example/>", b"ab")


def chunked(body: bytes, size: int = 100) -> bytes:
    pieces = [body[at:at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def raw_deflate(body: bytes) -> bytes:
    coder = zlib.compressobj(wbits=-15)
    return coder.compress(body) + coder.flush()


HTML = article("coded")


@pytest.mark.parametrize("block", [
    http(chunked(HTML), Transfer_Encoding="chunked"),
    http(HTML, Transfer_Encoding="chunked"),
    http(gzip.compress(HTML), Content_Encoding="gzip"),
    http(HTML, Content_Encoding="gzip"),
    http(chunked(gzip.compress(HTML)), Transfer_Encoding="chunked", Content_Encoding="x-gzip"),
    http(zlib.compress(HTML), Content_Encoding="deflate"),
    http(raw_deflate(HTML), Content_Encoding="deflate"),
    http(brotli.compress(HTML), Content_Encoding="br"),
    http(gzip.compress(brotli.compress(HTML)), Content_Encoding="br, gzip"),
    http(zstandard.ZstdCompressor().compress(HTML), Content_Encoding="zstd"),
    http(HTML, Content_Encoding="br"),
    b"HTTP/1.0 200\nContent-Type: TEXT/HTML; charset=utf-8\n\n" + HTML,
])
def test_bodies_as_servers_and_archivers_code_them(block: bytes) -> None:
    page = page_of(WarcRecord({"warc-type": "response"}, block, 0), 1 << 20)
    assert (page.body, page.charset) == (HTML, "utf-8")


@pytest.mark.parametrize(("block", "reason"), [
    (http(HTML, "404 Not Found"), "http_error"),
    (http(HTML, Content_Type="application/pdf"), "not_html"),
    (b"HTTP/1.1 200 OK\r\n\r\n%PDF-1.4", "not_html"),
    (http(gzip.compress(HTML)[:-9], Content_Encoding="gzip"), "bad_encoding"),
    (http(zstandard.ZstdCompressor().compress(HTML)[:-9], Content_Encoding="zstd"), "bad_encoding"),
    (http(chunked(HTML)[:-50], Transfer_Encoding="chunked"), "bad_encoding"),
    (http(b"\x1b\x03\x00", Content_Encoding="br"), "bad_encoding"),
    (http(brotli.compress(HTML)[:-9], Content_Encoding="br"), "bad_encoding"),
    (http(brotli.compress(bytes(1 << 20)), Content_Encoding="br"), "too_big"),
    (http(HTML[1:], Content_Encoding="x-unheard-of"), "bad_encoding"),
    (http(gzip.compress(bytes(1 << 20)), Content_Encoding="gzip"), "too_big"),
    (http(zstandard.ZstdCompressor().compress(bytes(1 << 20)), Content_Encoding="zstd"), "too_big"),
    (http(bytes(1 << 20)), "too_big"),
    (None, "too_big"),
    (b"rubbish", "bad_response"),
    (b"SSH-2.0-x\r\n\r\n", "bad_response"),
    (http(HTML, "2" * 5_000), "bad_response"),
    (http(HTML, "20"), "bad_response"),
])
def test_what_is_no_page_says_why(block: bytes | None, reason: str) -> None:
    with pytest.raises(NoPage) as caught:
        page_of(WarcRecord({"warc-type": "response"}, block, 0), 1 << 16)
    assert caught.value.reason == reason


PIECES = (b"WARC/1.0\r\n", b"Content-Length: 5\r\n", b"\r\n", b"WARC-Type: response\r\n", b"x" * 5,
          b"HTTP/1.1 200 OK\r\n", b"Transfer-Encoding: chunked\r\n", b"5\r\n", b"\0")


@given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=9), max_size=20))
def test_only_our_errors_escape_the_readers(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    try:
        for found in read_warc(io.BytesIO(data), "x", 1 << 10):
            assert found.block is None or len(found.block) == int(found.fields["content-length"])
    except Gpt2Error as error:
        assert "x" in str(error)
    try:
        page_of(WarcRecord({"warc-type": "response"}, data, 0), 1 << 10)
    except NoPage as none:
        assert none.reason


def test_a_record_is_read_at_its_place_only(tmp_path: Path) -> None:
    path = tmp_path / "a.warc.gz"
    one, two = gzip.compress(record("response", "u:1", b"one")), gzip.compress(record("response", "u:2", b"two"))
    path.write_bytes(one + two)
    assert record_at(path, len(one), len(two), 99).block == b"two"
    for offset, length in ((0, 1 << 60), (1, len(one)), (0, len(one) - 3), (0, len(one + two)), (len(one + two), 0)):
        with pytest.raises(BadInput, match="at byte"):
            record_at(path, offset, length, 99)


def test_json_lines_with_html(gpt2_here: Run, tmp_path: Path) -> None:
    pages = [{"url": "https://a.example/", "html": article("a").decode(), "karma": 7, "subreddit": "books"},
             {"html": article("b ö").decode()}, {"url": "https://short.example/", "html": "<p>Short.</p>"}]
    data = b"".join(json.dumps(page).encode() + b"\n" for page in pages)
    packed = zstandard.ZstdCompressor().compress(data)
    done = gpt2_here(*FAST, "--rejects", tmp_path / "rejects", input=packed, check=True)
    first, second, _ = (json.loads(line) for line in done.stdout.splitlines())
    assert (first["url"], first["karma"], first["subreddit"]) == ("https://a.example/", 7, "books")
    assert second["url"] is None and "b ö north" in second["text"]
    (dropped,) = (json.loads(line) for line in (tmp_path / "rejects").read_bytes().splitlines())
    assert (dropped["what"], dropped["reason"]) == ("https://short.example/", "text under 200 characters")


@pytest.mark.parametrize("line", [b'{"url": "u:1"}\n', b'{"html": 5}\n', b'{"html": "x", "url": 5}\n',
                                  b'{"html": "x", "url": "\\ud800"}\n', b'{"html"\n'])
def test_json_lines_without_pages_are_bad_input(gpt2_here: Run, line: bytes) -> None:
    done = gpt2_here(*FAST, input=line)
    assert done.returncode == 65 and b"standard input" in done.stderr


def test_one_page_on_stdin_becomes_text(gpt2_here: Run, tmp_path: Path) -> None:
    done = gpt2_here("webtext-scrape", "extract", input=article("alone"), check=True)
    lines = done.stdout.decode().splitlines()
    assert "alone" in lines and len(lines) == 4 and all("light at alone" in line for line in lines[1:])
    short = gpt2_here(*FAST, input="<html><body><p>Ein kurzer Satz über nichts.</p></body></html>".encode("latin-1"))
    assert short.stdout.decode() == "Ein kurzer Satz über nichts.\n"
    empty = gpt2_here(*FAST, input=b"<html></html>")
    assert empty.returncode == 65 and b"without text" in empty.stderr
    assert gpt2_here(*FAST, "--rejects", tmp_path / "r", input=article("x")).returncode == 2


def test_several_pages_are_a_usage_error(gpt2_here: Run, tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        (tmp_path / name).write_bytes(article(name))
    done = gpt2_here(*FAST, tmp_path / "a.html", tmp_path / "b.html")
    assert done.returncode == 2 and b"JSON lines" in done.stderr
    assert gpt2_here(*FAST, tmp_path / "missing.warc").returncode == 2


def test_shares_of_the_files_are_the_whole(gpt2_here: Run, tmp_path: Path) -> None:
    records = common_crawl()
    paths = [tmp_path / f"{number}.warc" for number in range(3)]
    for number, path in enumerate(paths):
        path.write_bytes(b"".join(records[3 * number + 1:3 * number + 4]))
    outs = []
    for number, share in enumerate(("1/1", "1/2", "2/2")):
        gpt2_here(*FAST, *paths, "--shard", share, "-o", tmp_path / f"{number}.out", check=True)
        outs.append((tmp_path / f"{number}.out").read_bytes())
    assert outs[0] == outs[1] + outs[2] and outs[1] and outs[2]
    assert gpt2_here(*FAST, "--shard", "1/2", input=b"").returncode == 2


def test_workers_do_not_change_a_byte(gpt2_here: Run, tmp_path: Path) -> None:
    bad = [record("response", f"u:{n}", http(b"x", "500 Oops")) for n in range(4)]
    good = [record("response", f"g:{n}", http(article(f"page {n}") * (1 + n % 3))) for n in range(40)]
    path = tmp_path / "mixed.warc.gz"
    path.write_bytes(b"".join(gzip.compress(one) for one in (*good[:20], *bad, *good[20:])))
    seen = set()
    for jobs in (1, 2, 3):
        gpt2_here(*FAST[:-1], jobs, path, "-f", "-o", tmp_path / "out", "--rejects", tmp_path / "rejects", check=True)
        seen.add(((tmp_path / "out").read_bytes(), (tmp_path / "rejects").read_bytes()))
    assert len(seen) == 1
    assert b"http_error" in seen.pop()[1] and os.path.getsize(tmp_path / "out") > 10_000


@pytest.mark.slow
def test_kill_nine_at_twenty_times(gpt2: Run, gpt2_popen: Run, tmp_path: Path) -> None:
    path = tmp_path / "pages.warc.gz"
    pages = (record("response", f"u:{number}", http(article(f"page {number}"))) for number in range(400))
    path.write_bytes(b"".join(map(gzip.compress, pages)))
    command = (*FAST[:-1], "2", path)
    began = time.monotonic()
    gpt2(*command, "-o", tmp_path / "calm.jsonl.zst", check=True)
    whole = time.monotonic() - began
    calm, out = (tmp_path / "calm.jsonl.zst").read_bytes(), tmp_path / "torn.jsonl.zst"
    draw, killed = random.Random(6), 0
    for _ in range(20):
        process = gpt2_popen(*command, "-f", "-o", out, stderr=subprocess.DEVNULL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(draw.uniform(0.3, 1.0) * whole)
        process.kill()
        if process.wait() == -signal.SIGKILL:
            killed += 1
        else:
            whole *= 0.7  # the machine was busier when it was measured
        assert not out.exists() or out.read_bytes() == calm
    assert killed >= 5
    gpt2(*command, "-f", "-o", out, check=True)
    assert out.read_bytes() == calm
