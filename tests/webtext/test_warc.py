from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from gpt2cli.errors import BadInput
from gpt2cli.webtext.warc import Response, WarcAppender, read_response

PAGE = Response("http://127.0.0.1/ä?q=1", "2017-10-01T00:00:00Z", 200, "OK",
                (("Content-Type", "text/html"), ("Content-Encoding", "gzip"), ("Content-Length", "17"), ("X-Two", "a"),
                 ("X-Two", "b")),
                b"<p>body\r\n\r\nwith blank lines\x00\xff</p>")


def test_round_trip_and_layout(tmp_path: Path) -> None:
    appender = WarcAppender(tmp_path / "warc", "gpt2cli/test", {})
    places = [appender.append(PAGE), appender.append(Response("http://127.0.0.1/b", PAGE.date, 200, "", (), b""))]
    appender.close()
    read = read_response(tmp_path / "warc" / places[0][0], *places[0][1:])
    assert (read.url, read.date, read.status, read.reason, read.body) == (PAGE.url, PAGE.date, 200, "OK", PAGE.body)
    assert read.header("content-type") == "text/html"
    assert read.header("content-length") == str(len(PAGE.body))  # of the body as kept, decoded
    assert read.header("x-crawl-content-encoding") == "gzip"
    assert [value for key, value in read.headers if key == "X-Two"] == ["a", "b"]
    data = (tmp_path / "warc" / places[0][0]).read_bytes()
    records = gzip.decompress(data)  # any reader of concatenated members reads it all
    assert records.count(b"WARC/1.1\r\n") == 3 and records.startswith(b"WARC/1.1\r\nWARC-Type: warcinfo")
    assert places[1][1] == places[0][1] + places[0][2] and places[1][1] + places[1][2] == len(data)


def test_headers_cannot_inject_records(tmp_path: Path) -> None:
    appender = WarcAppender(tmp_path / "warc", "x", {})
    evil = Response("http://127.0.0.1/", PAGE.date, 200, "OK\r\nX: y", (("A", "b\r\n\r\nWARC/1.1"),), b"body")
    place = appender.append(evil)
    appender.close()
    assert read_response(tmp_path / "warc" / place[0], *place[1:]).body == b"body"


def test_uncommitted_bytes_are_cut_off(tmp_path: Path) -> None:
    appender = WarcAppender(tmp_path / "warc", "x", {})
    name, offset, length = appender.append(PAGE)
    appender.append(PAGE)
    appender.close()
    (tmp_path / "warc" / "crawl-00001.warc.gz").write_bytes(b"left behind")
    again = WarcAppender(tmp_path / "warc", "x", {name: offset + length})
    assert (tmp_path / "warc" / name).stat().st_size == offset + length
    assert not (tmp_path / "warc" / "crawl-00001.warc.gz").exists()
    assert again.append(PAGE)[:2] == (name, offset + length)
    again.close()


def test_a_new_file_above_the_limit(tmp_path: Path) -> None:
    appender = WarcAppender(tmp_path / "warc", "x", {}, max_bytes=600)
    places = [appender.append(PAGE) for _ in range(4)]
    appender.close()
    assert len({name for name, _, _ in places}) > 1
    for name, offset, length in places:
        assert read_response(tmp_path / "warc" / name, offset, length).body == PAGE.body


def test_damage_is_found(tmp_path: Path) -> None:
    appender = WarcAppender(tmp_path / "warc", "x", {})
    name, offset, length = appender.append(PAGE)
    appender.close()
    path = tmp_path / "warc" / name
    for place in ((offset + 3, length), (offset, length - 5), (0, offset), (offset + length, 100)):
        with pytest.raises(BadInput, match="crawl-00000"):
            read_response(path, *place)
    with pytest.raises(BadInput, match="shorter"):
        WarcAppender(tmp_path / "warc", "x", {name: offset + length + 1})
