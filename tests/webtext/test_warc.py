from __future__ import annotations

import gzip
import io
from pathlib import Path

import fastwarc
import pytest
import zstandard
from warcio.archiveiterator import ArchiveIterator as WarcioIterator

from gpt2cli.errors import BadInput
from gpt2cli.webtext.archived_page import page_of
from gpt2cli.webtext.warc import COMPRESSIONS, Response
from gpt2cli.webtext.warc_files import WarcFiles
from gpt2cli.webtext.warc_reader import record_at

PAGE = Response("http://127.0.0.1/ä?q=1", "2017-10-01T00:00:00Z", 200, "OK",
                (("Content-Type", "text/html"), ("Content-Encoding", "gzip"), ("Content-Length", "17"), ("X-Two", "a"),
                 ("X-Two", "b")),
                b"<p>body\r\n\r\nwith blank lines\x00\xff</p>", "127.0.0.1")
both = pytest.mark.parametrize("compression", COMPRESSIONS)


def unpacked(data: bytes) -> bytes:
    """Every frame or member, one behind the other, as tools of their own read it."""
    if data.startswith(b"\x1f\x8b"):
        return gzip.decompress(data)
    return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True).read()


def append(files: WarcFiles, response: Response) -> tuple[str, int, int]:
    files.next_file()
    return files.append(response)


@both
def test_round_trip_and_layout(tmp_path: Path, compression: str) -> None:
    files = WarcFiles(tmp_path / "warc", "gpt2cli/test", {}, compression)
    places = [append(files, PAGE), append(files, Response("http://127.0.0.1/b", PAGE.date, 200, "", (), b""))]
    files.close()
    read = record_at(tmp_path / "warc" / places[0][0], *places[0][1:], 10**6)
    assert (read.fields["warc-target-uri"], read.fields["warc-date"], read.kind) == (PAGE.url, PAGE.date, "response")
    assert read.fields["warc-ip-address"] == "127.0.0.1"
    assert read.block is not None
    head, _, body = read.block.partition(b"\r\n\r\n")
    assert head.decode().split("\r\n") == [
        "HTTP/1.1 200 OK", "Content-Type: text/html", "X-Crawl-Content-Encoding: gzip", "X-Crawl-Content-Length: 17",
        "X-Two: a", "X-Two: b", f"Content-Length: {len(PAGE.body)}"]  # of the body as kept, decoded
    assert body == PAGE.body
    data = (tmp_path / "warc" / places[0][0]).read_bytes()
    records = unpacked(data)
    assert records.count(b"WARC/1.1\r\n") == 3 and records.startswith(b"WARC/1.1\r\nWARC-Type: warcinfo")
    assert f"WARC-Filename: crawl-00000.warc.{compression}\r\n".encode() in records
    assert places[1][1] == places[0][1] + places[0][2] and places[1][1] + places[1][2] == len(data)
    assert unpacked(data[places[1][1]:]).startswith(b"WARC/1.1\r\nWARC-Type: response")  # a frame for each record


@both
def test_other_readers_read_it(tmp_path: Path, compression: str) -> None:
    files = WarcFiles(tmp_path / "warc", "gpt2cli/test", {}, compression)
    places = [append(files, PAGE), append(files, Response("http://127.0.0.1/b", PAGE.date, 200, "", (), b"<p>b"))]
    files.close()
    with open(tmp_path / "warc" / places[0][0], "rb") as file:
        found = [(record.headers["WARC-Target-URI"], record.verify_payload_digest(), record.reader.read())
                 for record in fastwarc.ArchiveIterator(file, record_types=fastwarc.WarcRecordType.response)]
    assert found == [(PAGE.url, True, PAGE.body), ("http://127.0.0.1/b", True, b"<p>b")]
    if compression == "gz":
        with open(tmp_path / "warc" / places[0][0], "rb") as file:
            bodies = [record.content_stream().read() for record in WarcioIterator(file, check_digests="raise")
                      if record.rec_type == "response"]
        assert bodies == [PAGE.body, b"<p>b"]


@both
def test_headers_cannot_inject_records(tmp_path: Path, compression: str) -> None:
    files = WarcFiles(tmp_path / "warc", "x", {}, compression)
    evil = Response("http://127.0.0.1/", PAGE.date, 200, "OK\r\nX: y", (("A", "b\r\n\r\nWARC/1.1"),), b"<p>body")
    place = append(files, evil)
    files.close()
    assert page_of(record_at(tmp_path / "warc" / place[0], *place[1:], 10**6), 10**6).body == b"<p>body"


@both
def test_uncommitted_bytes_are_cut_off(tmp_path: Path, compression: str) -> None:
    files = WarcFiles(tmp_path / "warc", "x", {}, compression)
    name, offset, length = append(files, PAGE)
    append(files, PAGE)
    files.close()
    again = WarcFiles(tmp_path / "warc", "x", {name: offset + length}, compression)
    assert (tmp_path / "warc" / name).stat().st_size == offset + length
    assert append(again, PAGE)[:2] == (name, offset + length)
    again.close()


def test_the_archive_of_another_crawl_is_left_alone(tmp_path: Path) -> None:
    files = WarcFiles(tmp_path / "warc", "x", {})
    name, _, _ = append(files, PAGE)
    files.close()
    before = (tmp_path / "warc" / name).read_bytes()
    with pytest.raises(BadInput, match="another crawl"):
        WarcFiles(tmp_path / "warc", "x", {})
    assert (tmp_path / "warc" / name).read_bytes() == before


def test_another_compression_begins_another_file(tmp_path: Path) -> None:
    files = WarcFiles(tmp_path / "warc", "x", {}, "gz")
    name, offset, length = append(files, PAGE)
    files.close()
    again = WarcFiles(tmp_path / "warc", "x", {name: offset + length}, "zst")
    assert again.next_file() == "crawl-00001.warc.zst"
    again.close()


def test_a_new_file_above_the_limit(tmp_path: Path) -> None:
    files = WarcFiles(tmp_path / "warc", "x", {}, max_bytes=600)
    places = [append(files, PAGE) for _ in range(4)]
    files.close()
    assert len({name for name, _, _ in places}) > 1
    for name, offset, length in places:
        assert (record_at(tmp_path / "warc" / name, offset, length, 10**6).block or b"").endswith(PAGE.body)


@both
def test_what_the_state_recorded_must_be_there(tmp_path: Path, compression: str) -> None:
    files = WarcFiles(tmp_path / "warc", "x", {}, compression)
    name, offset, length = append(files, PAGE)
    files.close()
    with pytest.raises(BadInput, match="restore it"):
        WarcFiles(tmp_path / "warc", "x", {name: offset + length + 1}, compression)
    (tmp_path / "warc" / name).unlink()
    with pytest.raises(BadInput, match="0 bytes"):
        WarcFiles(tmp_path / "warc", "x", {name: offset + length}, compression)
