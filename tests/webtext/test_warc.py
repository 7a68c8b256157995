from __future__ import annotations

import gzip
import io
from pathlib import Path

import fastwarc
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from warcio.archiveiterator import ArchiveIterator as WarcioIterator

from gpt2cli.errors import BadInput
from gpt2cli.webtext.warc import COMPRESSIONS, Response, compressor, read_response, response_record
from gpt2cli.webtext.warc_files import WarcFiles

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
    read = read_response(tmp_path / "warc" / places[0][0], *places[0][1:])
    assert (read.url, read.date, read.status, read.reason, read.body) == (PAGE.url, PAGE.date, 200, "OK", PAGE.body)
    assert read.address == "127.0.0.1"
    assert read.header("content-type") == "text/html"
    assert read.header("content-length") == str(len(PAGE.body))  # of the body as kept, decoded
    assert read.header("x-crawl-content-encoding") == "gzip"
    assert [value for key, value in read.headers if key == "X-Two"] == ["a", "b"]
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
    evil = Response("http://127.0.0.1/", PAGE.date, 200, "OK\r\nX: y", (("A", "b\r\n\r\nWARC/1.1"),), b"body")
    place = append(files, evil)
    files.close()
    assert read_response(tmp_path / "warc" / place[0], *place[1:]).body == b"body"


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
        assert read_response(tmp_path / "warc" / name, offset, length).body == PAGE.body


@both
def test_damage_is_found(tmp_path: Path, compression: str) -> None:
    files = WarcFiles(tmp_path / "warc", "x", {}, compression)
    name, offset, length = append(files, PAGE)
    files.close()
    path = tmp_path / "warc" / name
    for place in ((offset + 3, length), (offset, length - 5), (0, offset), (offset + length, 100)):
        with pytest.raises(BadInput, match="crawl-00000"):
            read_response(path, *place)
    with pytest.raises(BadInput, match="restore it"):
        WarcFiles(tmp_path / "warc", "x", {name: offset + length + 1}, compression)
    path.unlink()
    with pytest.raises(BadInput, match="0 bytes"):
        WarcFiles(tmp_path / "warc", "x", {name: offset + length}, compression)


@both
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_only_a_sentence_escapes_damaged_records(tmp_path_factory: pytest.TempPathFactory, compression: str,
                                                 data: st.DataObject) -> None:
    record = bytearray(response_record(PAGE, compressor(compression)))
    for _ in range(data.draw(st.integers(1, 4))):
        record[data.draw(st.integers(0, len(record) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("warc") / "x"
    path.write_bytes(record)
    try:
        assert read_response(path, 0, len(record)).body == PAGE.body  # a byte that says nothing
    except BadInput:
        pass


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_only_a_sentence_escapes_what_is_no_warc(tmp_path_factory: pytest.TempPathFactory, block: bytes) -> None:
    path = tmp_path_factory.mktemp("warc") / "x"
    packed = gzip.compress(b"WARC/1.1\r\nWARC-Type: response\r\nWARC-Date: x\r\nWARC-Target-URI: x\r\n" + block)
    path.write_bytes(packed)
    with pytest.raises(BadInput):
        read_response(path, 0, len(packed))
